-- Judged records by score, the highest first. The page after a record begins below its score and id.
select f.record_id, f.token, f.score, f.threshold, f.margin, f.is_anomaly, f.label, f.detector, f.image_at,
       f.review, f.reviewed_by, f.needs_review, a.image_sha256, a.heatmap_key is not null as has_heatmap
  from (select j.*
          from anomaly.judged(%(verdict)s::boolean, %(reviewed)s::text, %(low)s::double precision, %(high)s::double precision,
                              %(label)s::text, %(detector)s::text, %(since)s::timestamptz, %(until)s::timestamptz) as j
         where (%(after)s::double precision is null or (j.score, j.record_id) < (%(after)s::double precision, %(after_id)s::bigint))
           and (%(attribute)s::text is null or exists (
                select from anomaly.records as r where r.id = j.record_id
                   and coalesce(to_jsonb(r) -> 'attributes', to_jsonb(r)) ->> %(attribute)s::text = %(attribute_value)s::text))
         order by j.score desc, j.record_id desc
         limit %(size)s::integer) as f
  join anomaly.ai_results as a on a.record_id = f.record_id and a.token = f.token
 order by f.score desc, f.record_id desc
