-- The four updates of a verdict in one statement.
with held as (
    update anomaly.records
       set status = 'done', attempts = attempts + 1, image_sha256 = $2, processed_at = now(), updated_at = now()
     where id = $1 and status || '' = 'claimed'  -- by the key: see include/sql/commit_verdict.sql
 returning id, token
), result as (
    insert into anomaly.ai_results (
           record_id, token, detector, config, score, threshold, is_anomaly, label, regions, image_sha256, image_key, answer_key,
           latency_ms, dag_id, run_id, map_index, try_number)
    select id, token, $3::text, 'none', $4::double precision, $5::double precision, $6::boolean, $7::text, $8::jsonb, $2::text, $9::text,
           $10::text, $11::double precision, 'none', 'none', 0, 1
      from held
), logged as (
    insert into anomaly.processing_log (record_id, event, attempt, token) select id, 'committed', 1, token from held
)
insert into anomaly.ai_flags (record_id, ai_processed, is_anomaly, needs_review)
select id, true, $6::boolean, $6::boolean from held
    on conflict (record_id) do update
   set ai_processed = true, is_anomaly = excluded.is_anomaly, needs_review = excluded.needs_review, updated_at = now()
