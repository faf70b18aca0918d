-- Locks a due record as a claim does, and changes nothing. For a transaction that is rolled back.
select r.id
  from anomaly.records as r
 where status = 'pending'
 order by captured_at, r.id
 limit 1
   for update skip locked
