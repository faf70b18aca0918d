-- Names the tables and views that a login can see, to find the nearest name.
select n.nspname::text as schema_name, c.relname::text as table_name
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
 where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('pg_catalog', 'information_schema', 'anomaly', 'pg_toast')
   and not c.relispartition
 limit 10000
