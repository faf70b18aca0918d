-- Bytes of each table of the project, and the counters of its rows.
select c.relname as name, pg_table_size(c.oid) as table_bytes, pg_indexes_size(c.oid) as index_bytes,
       s.n_tup_ins as inserted, s.n_tup_upd as updated, s.n_tup_hot_upd as updated_hot, s.n_dead_tup as dead, s.autovacuum_count as vacuumed
  from pg_class as c
  join pg_stat_user_tables as s on s.relid = c.oid
 where s.schemaname = 'anomaly'
 order by c.relname
