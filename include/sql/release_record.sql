-- Releases one record, until the detector's pause is over or because the run stops. No attempt is counted.
with held as (
    update anomaly.records
       set status = %(claimed_from)s, not_before = clock_timestamp() + %(delay_s)s * interval '1 s',
           last_error_code = %(code)s, last_error = %(error)s, updated_at = now()
     where id = %(record_id)s and token = %(token)s and status || '' = 'claimed'  -- by the key: see commit_verdict.sql
 returning id, token, attempts, batch_id, status
), logged as (
    insert into anomaly.processing_log (record_id, event, attempt, token, batch_id, error_code, error, timings)
    select id, case %(code)s::text when 'detector_throttled' then 'throttled' else 'released' end, attempts, token, batch_id,
           %(code)s::text, %(error)s::text, %(timings)s::jsonb
      from held
)
select status from held
