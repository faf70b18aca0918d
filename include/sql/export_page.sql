-- Returns a page of records of one status, in the order of their capture times, with their newest result and their flags. A record is
-- `chosen` if it fulfils the conditions; the others only lead to the next page.
-- The size in a subselect is unknown to the planner, which so keeps to the index on a table that was never analyzed.
with page (at, record_id) as materialized (
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
select p.at, p.record_id, e.*, a.*, f.*,
       (%(error_code)s::text is null or e.last_error_code = %(error_code)s::text) and (%(detector)s::text is null or a.detector is not null)
       as chosen
  from page as p
 cross join lateral (  -- as the next ones, by the key: a join would read the whole table
        select source, source_key, image_url, status, attributes, attempts, last_error_code, last_error, processed_at
          from anomaly.records
         where id = p.record_id
         limit 1) as e
  left join lateral (
        select created_at as scored_at, detector, score, threshold, is_anomaly, label, reason, regions, reused, cost, run_id, image_key,
               answer_key, heatmap_key
          from anomaly.ai_results
         where record_id = p.record_id and (%(detector)s::text is null or detector = %(detector)s::text)
         order by token desc
         limit 1) as a on true
  left join lateral (select needs_review, review, reviewed_by, reviewed_at from anomaly.ai_flags where record_id = p.record_id limit 1) as f
    on true
 order by p.at, p.record_id
