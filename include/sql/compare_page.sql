-- Compares the newest results of two detectors on a page of done records, in the order of their capture times, and returns the counts with
-- the last record of the page and up to `examples` records whose verdict differs. No record: the last page has been read.
with page (at, record_id, image_url) as materialized (
    select captured_at, r.id, r.image_url
      from anomaly.records as r
     where status = 'done'
       and (captured_at, r.id) > (%(after_at)s::timestamptz, %(after_id)s::bigint)
       and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
     order by captured_at, r.id
     limit (select %(size)s::integer)  -- an estimate that keeps to the index on a table that was never analyzed
), pairs as (
    select p.record_id, p.at, p.image_url, f.is_anomaly as first, s.is_anomaly as second, f.score as first_score, s.score as second_score
      from page as p
     cross join lateral (
            select is_anomaly, score from anomaly.ai_results
             where record_id = p.record_id and detector = %(first)s::text
             order by token desc limit 1) as f
     cross join lateral (
            select is_anomaly, score from anomaly.ai_results
             where record_id = p.record_id and detector = %(second)s::text
             order by token desc limit 1) as s
), changed as (
    select record_id, at, image_url, first, first_score, second, second_score
      from pairs
     where first <> second
     order by at, record_id
     limit %(examples)s::integer
)
select (select max(at) from page) as after_at,
       (select record_id from page order by at desc, record_id desc limit 1) as after_id,
       count(*) as records, count(*) filter (where first and second) as both_anomalous, count(*) filter (where first and not second) as only_first,
       count(*) filter (where second and not first) as only_second, count(*) filter (where not (first or second)) as both_normal,
       (select coalesce(jsonb_agg(to_jsonb(changed)), '[]') from changed) as changed
  from pairs
