-- Counts all demo records, and those without a verdict.
select count(*) as enqueued, count(*) filter (where status in ('pending', 'claimed')) as waiting
  from anomaly.records
 where attributes ? 'demo'
