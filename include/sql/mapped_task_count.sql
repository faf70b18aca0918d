-- How many mapped tasks an earlier round of this run had, before the run was cleared.
select coalesce(max(map_index) + 1, 0) as tasks
  from anomaly.chunks
 where batch_id = %(batch_id)s
