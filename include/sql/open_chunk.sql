-- Opens a chunk for one try of one task, and fences off an earlier try: every record that the chunk still holds gets a new token.
-- If the earlier try died while it worked, its suspects count one `lost`. No row: the chunk has ended, or another task holds it.
with mine as materialized (
    select batch_id, chunk, claimed_from, opened_at, try_number, alone
      from anomaly.chunks
     where batch_id = %(batch_id)s and chunk = %(chunk)s and ended_at is null
       and coalesce(map_index, %(map_index)s::integer) = %(map_index)s::integer
       and try_number <= %(try_number)s::integer
       for update
), opened as (
    update anomaly.chunks as c
       set map_index = %(map_index)s::integer, try_number = %(try_number)s::integer, opened_at = clock_timestamp(), alone = null,
           leased_until = clock_timestamp() + %(lease_s)s * interval '1 s'
      from mine
     where c.batch_id = mine.batch_id and c.chunk = mine.chunk
), held as materialized (
    select r.id, mine.claimed_from,
           case when mine.opened_at is null or mine.try_number = %(try_number)s::integer then 0
                when mine.alone is not null then (r.id = mine.alone)::integer
                else (r.lost < 2)::integer
           end as hit
      from mine
      join anomaly.records as r on r.batch_id = mine.batch_id and r.chunk = mine.chunk
     where r.status = 'claimed'
     order by r.id
       for update of r
), taken as (
    update anomaly.records as r
       set token = r.token + 1, lost = r.lost + held.hit, attempts = r.attempts + (r.lost + held.hit >= 5)::integer,
           status = case when r.lost + held.hit < 5 then 'claimed' when held.claimed_from = 'done' then 'done' else 'quarantined' end,
           last_error_code = case when held.hit = 1 then 'worker_lost' else r.last_error_code end, updated_at = now()
      from held
     where r.id = held.id
 returning r.id, r.image_url, r.token, r.status, r.attempts, r.lost, r.image_sha256, r.ask_anew, r.batch_id, held.hit
), logged as (
    insert into anomaly.processing_log (record_id, event, attempt, token, batch_id, error_code)
    select id, case when lost >= 5 then 'worker_died' else 'reopened' end, attempts, token, batch_id, 'worker_lost' from taken where hit = 1
)
select mine.claimed_from, taken.id, taken.image_url, taken.token, taken.attempts, taken.lost, taken.image_sha256, taken.ask_anew
  from mine
  left join taken on taken.status = 'claimed'
 order by taken.lost, taken.id
