-- Ends a chunk if none of its records is claimed any more: no record may stay claimed without a lease.
update anomaly.chunks as c
   set ended_at = clock_timestamp(), tally = %(tally)s::jsonb
 where c.batch_id = %(batch_id)s and c.chunk = %(chunk)s and c.map_index = %(map_index)s and c.try_number = %(try_number)s and c.ended_at is null
   and not exists (select from anomaly.records as r where r.batch_id = c.batch_id and r.chunk = c.chunk and r.status = 'claimed')
returning c.chunk
