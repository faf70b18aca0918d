-- Counts the records that a run would claim.
select (select count(*)
          from anomaly.records
         where status = 'pending'
           and captured_at > '-infinity'
           and captured_at >= coalesce(%(window_start)s::timestamptz, '-infinity')
           and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
           and (not_before is null or not_before <= (select clock_timestamp()))) as pending,
       (select count(*)
          from anomaly.records
         where %(selects)s::text = 'failed' and status = 'quarantined'
           and captured_at > '-infinity'
           and captured_at >= coalesce(%(window_start)s::timestamptz, '-infinity')
           and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')) as quarantined,
       (select count(*)
          from anomaly.records
         where %(selects)s::text = 'all' and status = 'done' and lost < 5
           and captured_at > '-infinity'
           and captured_at >= coalesce(%(window_start)s::timestamptz, '-infinity')
           and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
           and (not_before is null or not_before <= (select clock_timestamp()))) as done
