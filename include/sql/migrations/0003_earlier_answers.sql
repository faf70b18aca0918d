-- depends: 0002_results_log_and_flags
-- Whether a configuration of a detector has answered for an image, and what it said last.
create index ai_results_answers on anomaly.ai_results (image_sha256, config, created_at);
