-- Lists the chunks that a mapped task has not finished, whichever of its tries claimed them.
select chunk
  from anomaly.chunks
 where batch_id = %(batch_id)s and map_index = %(map_index)s and ended_at is null
 order by chunk
