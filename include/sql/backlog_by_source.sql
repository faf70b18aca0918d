-- Counts unfinished records by source and state. Like backlog.sql it reads at most a million records of each status.
with unfinished as (
    (select source, case when not_before is null or not_before <= (select clock_timestamp()) then 'due' else 'later' end as state
       from anomaly.records
      where status = 'pending' and captured_at > '-infinity' and captured_at < 'infinity'
      order by captured_at, id
      limit 1000000)
     union all
    (select source, 'claimed' from anomaly.records where status = 'claimed' limit 1000000)
     union all
    (select source, 'quarantined' from anomaly.records where status = 'quarantined' limit 1000000)
)
select source, count(*) filter (where state = 'due') as due, count(*) filter (where state = 'later') as later,
       count(*) filter (where state = 'claimed') as claimed, count(*) filter (where state = 'quarantined') as quarantined
  from unfinished
 group by source
 order by source nulls first
