-- Which of these keys of the bucket no result names; with a number of days, which no result of these days does. Each key goes with the
-- SHA-256 of its image, by which the index of earlier answers finds the results.
select wanted.key
  from unnest(%(keys)s::text[], %(image_sha256s)s::text[]) as wanted (key, image_sha256)
 where not exists (
       select from anomaly.ai_results as a
        where a.image_sha256 = wanted.image_sha256
          and wanted.key in (a.image_key, a.answer_key, a.heatmap_key)
          and a.created_at >= coalesce(now() - %(days)s::integer * interval '1 day', '-infinity'))
