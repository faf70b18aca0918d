-- depends: 0018_gallery
-- Indexes from which the backlog, the errors and the most uncertain scores are counted or found without reading rows. Each reads its
-- table once, which is locked against claims and commits meanwhile: together about two seconds for a million records.
create index records_failed_by_state on anomaly.records (last_error_code, status, id)
 where last_error_code is not null and status in ('pending', 'quarantined');
drop index anomaly.records_failed;

create index records_deferred on anomaly.records (not_before, captured_at) where status = 'pending' and not_before is not null;

-- With the score, so that a range of scores is checked in the index.
create index ai_flags_by_margin_and_score on anomaly.ai_flags (margin, record_id, score) where ai_processed;
drop index anomaly.ai_flags_by_margin;
