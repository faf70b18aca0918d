-- Marks the only record in progress, so that a worker's death counts for it alone. Null removes the mark.
update anomaly.chunks
   set alone = %(record_id)s::bigint
 where batch_id = %(batch_id)s and chunk = %(chunk)s and map_index = %(map_index)s and try_number = %(try_number)s and ended_at is null
returning chunk
