-- What a mapped task still has to work, whichever of its tries claimed it.
select chunk
  from anomaly.chunks
 where batch_id = %(batch_id)s and map_index = %(map_index)s and ended_at is null
 order by chunk
