-- Returns those of the given keys that no result refers to; with `days`, no result of the last `days`. Each key comes with the SHA-256 of
-- its image, for the index on ai_results.
select wanted.key
  from unnest(%(keys)s::text[], %(image_sha256s)s::text[]) as wanted (key, image_sha256)
 where not exists (
       select from anomaly.ai_results as a
        where a.image_sha256 = wanted.image_sha256
          and wanted.key in (a.image_key, a.answer_key, a.heatmap_key)
          and a.created_at >= coalesce(now() - %(days)s::integer * interval '1 day', '-infinity'))
