-- The keys of the objects that belong to a result.
select image_key, heatmap_key, image_sha256
  from anomaly.ai_results
 where record_id = %(record_id)s::bigint and token = %(token)s::bigint
