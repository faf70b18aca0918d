-- Describes a table or view and its columns, as far as the catalogs show them to any login. No row: there is none of that name.
select c.relkind::text as kind,
       has_schema_privilege(n.oid, 'usage') as usable,
       pg_relation_is_updatable(c.oid, true) & 4 > 0 as updatable,
       row_security_active(c.oid) as row_security,
       pg_is_in_recovery() or current_setting('transaction_read_only')::boolean as read_only,
       a.attname::text as name,
       format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null) as type,
       a.attgenerated::text as generated,
       has_column_privilege(c.oid, a.attnum, 'select') as readable,
       has_column_privilege(c.oid, a.attnum, 'update') as writable,
       exists (select from pg_index as i where i.indrelid = c.oid and i.indisvalid and i.indpred is null and i.indkey[0] = a.attnum) as indexed,
       (select jsonb_agg(array(
                select k.attname::text
                  from pg_attribute as k
                 where k.attrelid = c.oid and k.attnum = any(i.indkey[0:i.indnkeyatts - 1])))
          from pg_index as i
         where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null) as unique_keys,
       array(select k.attname::text
               from pg_partitioned_table as p
               join pg_attribute as k on k.attrelid = p.partrelid and k.attnum = any(p.partattrs)
              where p.partrelid = c.oid) as partition_key,
       array(select g.tgname::text from pg_trigger as g where g.tgrelid = c.oid and g.tgenabled in ('O', 'A')) as triggers
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_type as t on t.oid = a.atttypid
 where n.nspname = %(schema_name)s and c.relname = %(table_name)s and c.relkind in ('r', 'p', 'v', 'm', 'f')
 order by a.attnum
