-- Ends chunks whose lease has expired, and releases the records that they still hold. Few at a time, to keep transactions short.
-- If the worker died while it worked, its suspects count one `lost`; at five the record is quarantined.
with dead as materialized (
    select batch_id, chunk, claimed_from, opened_at, alone
      from anomaly.chunks
     where ended_at is null and leased_until < (select clock_timestamp())
     order by leased_until
     limit 20
       for update skip locked
), ended as (
    update anomaly.chunks as c
       set ended_at = clock_timestamp()
      from dead
     where c.batch_id = dead.batch_id and c.chunk = dead.chunk
), held as materialized (
    select r.id, dead.claimed_from,
           case when dead.opened_at is null then 0
                when dead.alone is not null then (r.id = dead.alone)::integer
                else (r.lost < 2)::integer
           end as hit
      from dead
      join anomaly.records as r on r.batch_id = dead.batch_id and r.chunk = dead.chunk
     where r.status = 'claimed'
     order by r.id
       for update of r
), freed as (
    update anomaly.records as r
       set status = case when r.lost + held.hit < 5 or held.claimed_from = 'done' then held.claimed_from else 'quarantined' end,
           lost = r.lost + held.hit,
           attempts = r.attempts + (r.lost + held.hit >= 5)::integer,
           last_error_code = case when held.hit = 1 then 'worker_lost' else r.last_error_code end,
           updated_at = now()
      from held
     where r.id = held.id
 returning r.id, r.attempts, r.token, r.batch_id, r.lost, held.hit
), logged as (
    insert into anomaly.processing_log (record_id, event, attempt, token, batch_id, error_code)
    select id, case when lost >= 5 then 'worker_died' else 'expired' end, attempts, token, batch_id, case when hit = 1 then 'worker_lost' end
      from freed
)
select (select count(*) from dead) as chunks, (select count(*) from freed) as records
