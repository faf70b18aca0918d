-- Returns records with their newest result, or that of one detector, and their flags, in the order of the ids. The verdict of the newest
-- result is read by the threshold in force, as the flags have it. Each row is found by its key: a join would read the whole tables.
select r.*, a.*, f.needs_review, f.review, f.reviewed_by, f.reviewed_at,
       case when f.token = a.token then f.threshold else a.own_threshold end as threshold,
       case when f.token = a.token then f.is_anomaly else a.own_verdict end as is_anomaly
  from unnest(%(record_ids)s::bigint[]) with ordinality as p (id, number)
 cross join lateral (
        select id as record_id, source, source_key, image_url, captured_at, status, attributes, attempts, last_error_code, last_error,
               processed_at
          from anomaly.records
         where id = p.id
         limit 1) as r
  left join lateral (
        select created_at as scored_at, token, detector, score, threshold as own_threshold, is_anomaly as own_verdict, label, reason, regions,
               regions_unit, reused, cost, run_id, image_sha256, image_key, image_width_px, image_height_px, answer_key, heatmap_key
          from anomaly.ai_results
         where record_id = p.id and (%(detector)s::text is null or detector = %(detector)s::text)
         order by token desc
         limit 1) as a on true
  left join lateral (
        select token, threshold, is_anomaly, needs_review, review, reviewed_by, reviewed_at from anomaly.ai_flags where record_id = p.id limit 1
       ) as f on true
 order by p.number
