-- Postgres's statistics of the project's tables: live and dead rows, size, and the last vacuum and analyze.
select s.schemaname || '.' || s.relname as name, s.n_live_tup as live, s.n_dead_tup as dead,
       pg_total_relation_size(s.relid) as size_bytes,
       greatest(s.last_vacuum, s.last_autovacuum) as vacuumed_at,
       greatest(s.last_analyze, s.last_autoanalyze) as analysed_at
  from pg_stat_user_tables as s
 where s.schemaname = 'anomaly' or s.relid = to_regclass('anomaly.records')
 order by size_bytes desc, name
