-- Returns how this claim of the record ended. Runs after fail_record or release_record changed no row, as a statement of its own, so that
-- it sees what was committed meanwhile.
select case event when 'deferred' then 'pending' when 'rescore_failed' then 'done' when 'throttled' then %(claimed_from)s::text else event
       end as status
  from anomaly.processing_log
 where record_id = %(record_id)s and token = %(token)s and event in ('deferred', 'quarantined', 'rescore_failed', 'throttled')
