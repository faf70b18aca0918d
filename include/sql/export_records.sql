-- Returns records with their newest result, or that of one detector, and their flags, in the order of the ids.
-- Each row is found by its key: a join would read the whole tables.
select r.*, a.*, f.*
  from unnest(%(record_ids)s::bigint[]) with ordinality as p (id, number)
 cross join lateral (
        select id as record_id, source, source_key, image_url, captured_at, status, attributes, attempts, last_error_code, last_error,
               processed_at
          from anomaly.records
         where id = p.id
         limit 1) as r
  left join lateral (
        select created_at as scored_at, token, detector, score, threshold, is_anomaly, label, reason, regions, reused, cost, run_id,
               image_sha256, image_key, answer_key, heatmap_key
          from anomaly.ai_results
         where record_id = p.id and (%(detector)s::text is null or detector = %(detector)s::text)
         order by token desc
         limit 1) as a on true
  left join lateral (select needs_review, review, reviewed_by, reviewed_at from anomaly.ai_flags where record_id = p.id limit 1) as f
    on true
 order by p.number
