-- Counts unfinished records by state, and returns how long ago the oldest due record was captured.
-- Every run asks, so at most a million records of each status are read, which keeps it cheap however large the backlog is.
select count(*) filter (where pending.is_due) as due,
       count(*) filter (where not pending.is_due) as later,
       (select count(*) from (select from anomaly.records where status = 'claimed' limit 1000000) as claimed) as claimed,
       (select count(*) from (select from anomaly.records where status = 'quarantined' limit 1000000) as quarantined) as quarantined,
       extract(epoch from clock_timestamp() - min(pending.captured_at) filter (where pending.is_due))::double precision as oldest_due_age_s
  from (select captured_at, not_before is null or not_before <= (select clock_timestamp()) as is_due
          from anomaly.records as r
         where status = 'pending' and captured_at > '-infinity' and captured_at < 'infinity'
         order by captured_at, r.id
         limit 1000000) as pending
