-- Judged records by the time of capture, the newest first.
-- Of a filter with few records (`is_few`) all are found first and then sorted, since the walk along the index of the order could be long.
-- An attribute, which has no index, is looked up for the next `candidates`; the last of them is returned in any case.
select f.record_id, f.token, f.score, f.threshold, f.margin, f.is_anomaly, f.label, f.detector, f.image_at,
       f.review, f.reviewed_by, f.needs_review, a.image_sha256, a.heatmap_key is not null as has_heatmap, f.is_match,
       f.place = %(candidates)s::integer as is_last
  from (select c.*, row_number() over (order by c.image_at desc, c.record_id desc) as place,
               %(attribute)s::text is null or coalesce((
                   select r.attributes ->> %(attribute)s::text from anomaly.records as r where r.id = c.record_id)
                   = %(attribute_value)s::text, false) as is_match
          from (select j.*
                  from anomaly.judged(%(verdict)s::boolean, %(reviewed)s::text, %(low)s::double precision, %(high)s::double precision,
                                      %(label)s::text, %(detector)s::text, %(since)s::timestamptz, %(until)s::timestamptz) as j
                 where (%(after)s::timestamptz is null or (j.image_at, j.record_id) < (%(after)s::timestamptz, %(after_id)s::bigint))
                 order by case when %(is_few)s::boolean then j.image_at + interval '0' end desc, j.image_at desc, j.record_id desc
                 limit %(candidates)s::integer) as c) as f
  join anomaly.ai_results as a on a.record_id = f.record_id and a.token = f.token
 where f.is_match or f.place = %(candidates)s::integer
 order by f.image_at desc, f.record_id desc
 limit %(size)s::integer
