-- Returns the newest answer of a detector's configuration to each image, of any record. A fresh run sees only its own answers.
select wanted.image_sha256, newest.answer_key, newest.heatmap_key
  from unnest(%(image_sha256s)s::text[]) as wanted (image_sha256)
 cross join lateral (
    select a.answer_key, a.heatmap_key
      from anomaly.ai_results as a
     where a.image_sha256 = wanted.image_sha256 and a.config = %(config)s
       and (not %(fresh)s::boolean or (a.dag_id = %(dag_id)s and a.run_id = %(run_id)s))
     order by a.created_at desc
     limit 1
) as newest
