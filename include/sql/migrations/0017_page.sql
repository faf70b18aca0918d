-- depends: 0011_compare_known_detectors
-- The page in Airflow reads the newest rows of these tables, whose times only grow: a BRIN index costs a commit next to nothing.
create index ai_results_created_at on anomaly.ai_results using brin (created_at) with (pages_per_range = 16, autosummarize = on);
create index processing_log_at on anomaly.processing_log using brin (at) with (pages_per_range = 16, autosummarize = on);
create index batches_created_at on anomaly.batches (created_at);

-- The newest events of a batch, without the others.
create index processing_log_batch_id on anomaly.processing_log (batch_id, id);
drop index anomaly.processing_log_batch;
