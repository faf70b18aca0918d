-- Keeps every chunk of this try for the retry. If a parked chunk is never opened again, no record counts a death.
with mine as materialized (
    select batch_id, chunk
      from anomaly.chunks
     where batch_id = %(batch_id)s and map_index = %(map_index)s and try_number = %(try_number)s and ended_at is null
     order by chunk
       for update
)
update anomaly.chunks as c
   set opened_at = null, alone = null, leased_until = clock_timestamp() + %(lease_s)s * interval '1 s'
  from mine
 where c.batch_id = mine.batch_id and c.chunk = mine.chunk
returning c.chunk
