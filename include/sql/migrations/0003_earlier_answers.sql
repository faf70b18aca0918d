-- depends: 0002_results_log_and_flags
-- Finds the newest answer of a detector's configuration to an image.
create index ai_results_answers on anomaly.ai_results (image_sha256, config, created_at);
