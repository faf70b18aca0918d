-- Counts a failed attempt: the record is due again later, or quarantined if it can never succeed or has no attempts left.
-- A failed re-scoring leaves the record done with its last result, and sets processed_at, or the run would take it again.
with held as (
    update anomaly.records
       set status = case when %(claimed_from)s::text = 'done' then 'done'
                         when %(permanent)s::boolean or attempts + 1 >= %(attempts_max)s::integer then 'quarantined'
                         else 'pending'
                    end,
           attempts = attempts + 1, lost = 0, last_error_code = %(code)s, last_error = %(error)s,
           not_before = case when %(claimed_from)s::text = 'pending' then clock_timestamp() + %(delay_s)s * interval '1 s' end,
           processed_at = case when %(claimed_from)s::text = 'done' or %(permanent)s::boolean or attempts + 1 >= %(attempts_max)s::integer then now()
                               else processed_at
                          end,
           updated_at = now()
     where id = %(record_id)s and token = %(token)s and status || '' = 'claimed'  -- by the key: see commit_verdict.sql
 returning id, token, attempts, batch_id, status
), logged as (
    insert into anomaly.processing_log (record_id, event, attempt, token, batch_id, error_code, error, timings)
    select id, case status when 'pending' then 'deferred' when 'done' then 'rescore_failed' else 'quarantined' end,
           attempts, token, batch_id, %(code)s::text, %(error)s::text, %(timings)s::jsonb
      from held
)
select status from held
