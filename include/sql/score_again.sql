-- Makes chosen done records pending, so that the next run asks the detector about them anew, and logs who asked for it. Their results, flags
-- and reviews stay until the next verdict. One that is in work is not chosen: its verdict is new anyway.
with chosen as materialized (
    select r.id
      from anomaly.records as r
     where r.id = any(%(record_ids)s::bigint[]) and status = 'done'
     order by r.id
       for update
), due as (
    update anomaly.records as r
       set status = 'pending', attempts = 0, lost = 0, not_before = null, ask_anew = %(ask_anew)s::uuid, updated_at = now()
      from chosen
     where r.id = chosen.id and r.id = any(array(select id from chosen))
 returning r.id, r.attempts, r.token
), logged as (
    insert into anomaly.processing_log (record_id, event, attempt, token, actor)
    select id, 'requeued', attempts, token, %(actor)s::text from due
)
select count(*) as records from due
