-- Counts the mapped tasks that the run had before it was cleared.
select coalesce(max(map_index) + 1, 0) as tasks
  from anomaly.chunks
 where batch_id = %(batch_id)s
