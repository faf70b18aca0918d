-- Makes chosen quarantined records pending, the oldest first, and logs who asked for it. Each parameter that is null chooses all.
with chosen as materialized (
    select r.id
      from anomaly.records as r
     where status = 'quarantined'
       and captured_at >= coalesce(%(window_start)s::timestamptz, '-infinity')
       and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
       and (%(error_code)s::text is null or last_error_code = %(error_code)s::text)
       and (%(record_ids)s::bigint[] is null or r.id = any(%(record_ids)s::bigint[]))
     order by captured_at, id
     limit %(size)s::integer
       for update skip locked
), requeued as (
    update anomaly.records as r
       set status = 'pending', attempts = 0, lost = 0, not_before = null, updated_at = now()
      from chosen
     where r.id = chosen.id and r.id = any(array(select id from chosen))
 returning r.id, r.attempts, r.token
), logged as (
    insert into anomaly.processing_log (record_id, event, attempt, token, actor)
    select id, 'requeued', attempts, token, %(actor)s::text from requeued
)
select count(*) as records from requeued
