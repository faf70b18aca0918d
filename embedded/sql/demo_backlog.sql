-- How many demo records there are, and how many of them still wait for a verdict.
select count(*) as enqueued, count(*) filter (where status in ('pending', 'claimed')) as waiting
  from anomaly.records
 where attributes ? 'demo'
