-- Renews the leases of the chunks that this try still works, and never shortens one. The lease of a chunk that it gave up has to expire.
with mine as materialized (
    select batch_id, chunk
      from anomaly.chunks
     where batch_id = %(batch_id)s and map_index = %(map_index)s and try_number = %(try_number)s and ended_at is null
       and chunk = any(%(chunks)s::integer[])
     order by chunk
       for update
)
update anomaly.chunks as c
   set leased_until = greatest(c.leased_until, clock_timestamp() + %(lease_s)s * interval '1 s')
  from mine
 where c.batch_id = mine.batch_id and c.chunk = mine.chunk
returning c.chunk
