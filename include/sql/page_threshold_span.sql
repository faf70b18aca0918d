-- The lowest and highest score of a detector, the newest image, and the thresholds of its flags. Each is one end of an index.
select (select min(f.score) from anomaly.ai_flags as f where f.ai_processed and f.detector = %(detector)s::text) as low,
       (select max(f.score) from anomaly.ai_flags as f where f.ai_processed and f.detector = %(detector)s::text) as high,
       (select max(f.image_at) from anomaly.ai_flags as f where f.ai_processed and f.detector = %(detector)s::text) as newest_at,
       (select min(f.threshold) from anomaly.ai_flags as f where f.ai_processed and f.detector = %(detector)s::text) as threshold_low,
       (select max(f.threshold) from anomaly.ai_flags as f where f.ai_processed and f.detector = %(detector)s::text) as threshold_high
