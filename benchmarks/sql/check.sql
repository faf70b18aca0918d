-- Counts mistakes of a contestant: each number must be 0. The detector's score follows from the number of a record.
with expected as (
    select id, (id * 7919 %% 1000) / 1000.0 as score from anomaly.records
), results as (
    select e.id, r.record_id, r.image_sha256,
           abs(r.score - e.score) < 1e-9 and r.is_anomaly = (e.score >= 0.9) and r.image_key <> '' and r.answer_key <> '' as is_right
      from expected as e
      left join anomaly.ai_results as r on r.record_id = e.id
)
select %(records)s - (select count(*) from anomaly.records where status = 'done' and processed_at is not null) as not_done,
       (select count(*) from results where record_id is null) as without_result,
       (select count(*) from results where not is_right) as wrong_results,
       (select count(*) - count(distinct record_id) from anomaly.ai_results) as double_results,
       %(records)s - (select count(distinct image_sha256) from results) as not_distinct_images,
       %(records)s - (select count(distinct record_id) from anomaly.processing_log where event = 'committed') as not_logged,
       (select count(*) - count(distinct record_id) from anomaly.processing_log where event = 'committed') as logged_twice,
       %(records)s - (select count(*) from anomaly.ai_flags as f join results as r on r.id = f.record_id
                       -- A version from before the sample has no such column.
                       where f.ai_processed and f.needs_review = (f.is_anomaly or coalesce((to_jsonb(f) ->> 'sampled')::boolean, false))) as not_flagged
