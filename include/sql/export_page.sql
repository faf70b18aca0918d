-- Returns a page of the records of one status, in the order of their capture times.
-- The size in a subselect is unknown to the planner, which so keeps to the index on a table that was never analyzed.
with page (at, record_id) as (
    (select captured_at, r.id from anomaly.records as r
      where %(status)s::text = 'done' and status = 'done'
        and (captured_at, r.id) > (%(after_at)s::timestamptz, %(after_id)s::bigint)
        and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
      order by captured_at, r.id limit (select %(size)s::integer))
     union all
    (select captured_at, r.id from anomaly.records as r
      where %(status)s::text = 'pending' and status = 'pending'
        and (captured_at, r.id) > (%(after_at)s::timestamptz, %(after_id)s::bigint)
        and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
      order by captured_at, r.id limit (select %(size)s::integer))
     union all
    (select captured_at, r.id from anomaly.records as r
      where %(status)s::text = 'quarantined' and status = 'quarantined'
        and (captured_at, r.id) > (%(after_at)s::timestamptz, %(after_id)s::bigint)
        and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
      order by captured_at, r.id limit (select %(size)s::integer))
     union all
    (select captured_at, r.id from anomaly.records as r
      where %(status)s::text = 'claimed' and status = 'claimed'
        and (captured_at, r.id) > (%(after_at)s::timestamptz, %(after_id)s::bigint)
        and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
      order by captured_at, r.id limit (select %(size)s::integer))
)
select at, record_id
  from page
 order by at, record_id
