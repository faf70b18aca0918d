-- Ends every chunk of this try, and releases the records that it still holds: due at once, no attempt counted.
with mine as materialized (
    select batch_id, chunk, claimed_from
      from anomaly.chunks
     where batch_id = %(batch_id)s and map_index = %(map_index)s and try_number = %(try_number)s and ended_at is null
     order by chunk
       for update
), ended as (
    update anomaly.chunks as c
       set ended_at = clock_timestamp()
      from mine
     where c.batch_id = mine.batch_id and c.chunk = mine.chunk
), held as materialized (
    select r.id, mine.claimed_from
      from mine
      join anomaly.records as r on r.batch_id = mine.batch_id and r.chunk = mine.chunk
     where r.status = 'claimed'
     order by r.id
       for update of r
), freed as (
    update anomaly.records as r
       set status = held.claimed_from, updated_at = now()
      from held
     where r.id = held.id
 returning r.id, r.attempts, r.token, r.batch_id
), logged as (
    insert into anomaly.processing_log (record_id, event, attempt, token, batch_id)
    select id, 'released', attempts, token, batch_id from freed
)
select (select count(*) from mine) as chunks, (select count(*) from freed) as records
