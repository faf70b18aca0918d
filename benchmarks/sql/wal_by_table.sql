-- The bytes of WAL that one committed record costs in each of our tables and its indexes, full pages not counted, from a stretch of it.
-- An entry about several pages is divided among them.
with blocks as materialized (
    select b.resource_manager, b.record_type, b.reltablespace, b.relfilenode, b.block_data_length,
           (b.record_length - sum(b.block_data_length + b.block_fpi_length) over same)::numeric / count(*) over same as shared
      from pg_get_wal_block_info(%(first)s::pg_lsn, %(last)s::pg_lsn) as b
    window same as (partition by b.start_lsn)
), commits as (
    select count(*) as n
      from blocks
     where resource_manager = 'Heap' and record_type like 'INSERT%%' and relfilenode = pg_relation_filenode('anomaly.ai_results')
), relations as (
    select pg_filenode_relation(reltablespace, relfilenode) as relation, sum(block_data_length + shared) as bytes
      from blocks
     group by reltablespace, relfilenode
)
select c.relname as name, (sum(r.bytes) / (select nullif(n, 0) from commits))::double precision as bytes
  from relations as r
  left join pg_index as i on i.indexrelid = r.relation
  join pg_class as c on c.oid = coalesce(i.indrelid, r.relation)
 where c.relnamespace = 'anomaly'::regnamespace
 group by c.relname
