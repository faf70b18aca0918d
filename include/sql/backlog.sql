-- Counts unfinished records by state, and returns how long ago the oldest due record was captured. Every run asks, and the page every few
-- seconds, so the counts read indexes only, and at most a million records of each status.
select greatest(0, pending.records - later.records) as due, later.records as later, claimed.records as claimed,
       quarantined.records as quarantined, extract(epoch from clock_timestamp() - oldest.captured_at)::double precision as oldest_due_age_s
  from (select count(*) as records
          from (select from anomaly.records
                 where status = 'pending' and captured_at > '-infinity' and captured_at < 'infinity'
                 limit 1000000) as counted) as pending
 cross join (
        select count(*) as records
          from (select from anomaly.records
                 where status = 'pending' and not_before > (select clock_timestamp())
                   and captured_at > '-infinity' and captured_at < 'infinity'
                 limit 1000000) as counted) as later
 cross join (select count(*) as records from (select from anomaly.records where status = 'claimed' limit 1000000) as counted) as claimed
 cross join (select count(*) as records from (select from anomaly.records where status = 'quarantined' limit 1000000) as counted) as quarantined
  left join (
        select captured_at
          from anomaly.records as r
         where status = 'pending' and (not_before is null or not_before <= (select clock_timestamp()))
           and captured_at > '-infinity' and captured_at < 'infinity'
         order by captured_at, r.id
         limit 1) as oldest on true
