-- Claims one chunk of pending records that are due, and leases it. No row: nothing was due, or the batch is closed.
with batch as materialized (
    -- This lock numbers the chunks and counts towards max_records. `limit null` is no limit, hence the coalesce below.
    select batch_id, next_chunk, greatest(0, least(%(size)s::integer, coalesce(%(max_records)s::integer, 2147483647) - claimed)) as room
      from anomaly.batches
     where batch_id = %(batch_id)s and began_at = %(began_at)s
       for update
), due as materialized (
    select id
      from anomaly.records
     where status = 'pending'
       and captured_at > '-infinity'  -- no capture time; a window always ends before 'infinity'
       and captured_at >= coalesce(%(window_start)s::timestamptz, '-infinity')
       and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
       and (not_before is null or not_before <= (select clock_timestamp()))
     order by captured_at, id
     limit coalesce((select room from batch), 0)
       for update skip locked
), taken as (
    -- By id alone: with a condition on the status the planner chose a quadratic plan on tables that were never analyzed.
    update anomaly.records as r
       set status = 'claimed', token = r.token + 1, batch_id = batch.batch_id, chunk = batch.next_chunk, updated_at = now()
      from due, batch
     where r.id = due.id and r.id = any(array(select id from due))
 returning r.id
), numbered as (
    update anomaly.batches
       set next_chunk = next_chunk + 1, claimed = claimed + (select count(*) from taken), updated_at = now()
     where batch_id = %(batch_id)s and exists (select from taken)
)
insert into anomaly.chunks (batch_id, chunk, map_index, try_number, claimed_from, leased_until)
select batch_id, next_chunk, %(map_index)s::integer, %(try_number)s::integer, 'pending', clock_timestamp() + %(lease_s)s * interval '1 s'
  from batch
 where exists (select from taken)
returning chunk
