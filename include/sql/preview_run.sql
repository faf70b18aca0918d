-- Counts the records that a run would claim, and returns the rate of the last run: records a second from its first claim to its report.
select (select count(*)
          from anomaly.records
         where status = 'pending'
           and captured_at >= coalesce(%(window_start)s::timestamptz, '-infinity')
           and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
           and (not_before is null or not_before <= (select clock_timestamp()))) as pending,
       (select count(*)
          from anomaly.records
         where %(selects)s::text = 'failed' and status = 'quarantined'
           and captured_at >= coalesce(%(window_start)s::timestamptz, '-infinity')
           and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')) as quarantined,
       (select count(*)
          from anomaly.records
         where %(selects)s::text = 'all' and status = 'done' and lost < 5
           and captured_at >= coalesce(%(window_start)s::timestamptz, '-infinity')
           and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
           and (not_before is null or not_before <= (select clock_timestamp()))) as done,
       (select claimed / extract(epoch from updated_at - created_at)::double precision
          from anomaly.batches
         where began_at is null and claimed > 0 and updated_at > created_at
         order by created_at desc
         limit 1) as records_per_s
