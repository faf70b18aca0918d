-- Lists the batch's chunks that no task has opened, which an earlier try of `claim` committed.
select chunk
  from anomaly.chunks
 where batch_id = %(batch_id)s and map_index is null and ended_at is null
 order by chunk
