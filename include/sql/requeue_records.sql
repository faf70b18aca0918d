-- Makes quarantined records of the window pending. A run takes each record once, since quarantining sets processed_at.
with batch as materialized (
    select batch_id
      from anomaly.batches
     where batch_id = %(batch_id)s and began_at = %(began_at)s
       for update
), chosen as materialized (
    select id
      from anomaly.records
     where status = 'quarantined'
       and captured_at >= coalesce(%(window_start)s::timestamptz, '-infinity')
       and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
       and (processed_at is null or processed_at < %(began_at)s)
       and exists (select from batch)
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
    insert into anomaly.processing_log (record_id, event, attempt, token, batch_id, actor)
    select id, 'requeued', attempts, token, %(batch_id)s::uuid, %(actor)s::text from requeued
)
select count(*) as records from requeued
