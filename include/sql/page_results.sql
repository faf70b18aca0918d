-- The results of a record, the newest first.
select token, detector, config, score, threshold, is_anomaly, label, reason, regions, regions_unit, image_sha256, image_width_px,
       image_height_px, image_media_type, image_key, answer_key, heatmap_key, reused, usage, cost, latency_ms, dag_id, run_id, map_index,
       try_number, created_at
  from anomaly.ai_results
 where record_id = %(record_id)s::bigint
 order by token desc
 limit 50
