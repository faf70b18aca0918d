-- How much waits to be claimed right now, and since when.
select count(*) as due, min(captured_at) as oldest
  from anomaly.records
 where status = 'pending' and (not_before is null or not_before <= (select clock_timestamp()))
