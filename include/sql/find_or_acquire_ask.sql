-- Returns the newest answer to each image, as find_answers does; if there is none, acquires the ask or returns that another record has it.
-- An ask is held while its record is claimed under that token, in a chunk that is open and leased: it ends with its record, and renewing
-- the lease keeps it. A record that stays claimed for the task's next try and no longer asks in this one releases it by release_ask.
with seen as materialized (
    -- One snapshot of answers and asks, so that an ask that ended with a commit is never seen without the committed answer.
    -- newer_than: the answer of that time is missing from the bucket, so only a newer one counts.
    select w.image_sha256, w.record_id, w.token, w.chunk, newest.answer_key, newest.heatmap_key, newest.created_at,
           a.record_id as by_record, a.token as by_token, coalesce(lease.is_of_this_try, false) as by_this_try,
           coalesce(lease.lasts and (select r.status = 'claimed' and r.token = a.token
                                       from anomaly.records as r
                                      where r.id = a.record_id), false) as held
      from unnest(%(image_sha256s)s::text[], %(record_ids)s::bigint[], %(tokens)s::bigint[], %(chunk_numbers)s::integer[],
                  %(newer_than)s::timestamptz[]) as w (image_sha256, record_id, token, chunk, newer_than)
      left join lateral (
        select e.answer_key, e.heatmap_key, e.created_at
          from anomaly.ai_results as e
         where e.image_sha256 = w.image_sha256 and e.config = %(config)s and e.created_at > coalesce(w.newer_than, '-infinity')
           and (not %(fresh)s::boolean or (e.dag_id = %(dag_id)s and e.run_id = %(run_id)s))
         order by e.created_at desc
         limit 1) as newest on true
      left join lateral (  -- the limit makes Postgres look up each row by key, even if the table has grown since it was last analyzed
        select b.record_id, b.token, b.batch_id, b.chunk from anomaly.asks as b
         where b.image_sha256 = w.image_sha256 and b.config = %(config)s and b.scope = %(scope)s::uuid
         limit 1) as a on true
      left join lateral (
        select c.opened_at is not null and c.leased_until > (select clock_timestamp()) as lasts,
               c.batch_id = %(batch_id)s::uuid and c.map_index = %(map_index)s and c.try_number = %(try_number)s as is_of_this_try
          from anomaly.chunks as c
         where c.batch_id = a.batch_id and c.chunk = a.chunk) as lease on true
), acquired as (
    -- The row shows changes since the snapshot. Only the ask that was seen is taken over; with any other one, there may be an answer by
    -- now. In the order of the key, so that two statements never wait for each other.
    insert into anomaly.asks as a (image_sha256, config, scope, record_id, token, batch_id, chunk, asked_at)
    select image_sha256, %(config)s, %(scope)s::uuid, record_id, token, %(batch_id)s::uuid, chunk, clock_timestamp()
      from seen
     where answer_key is null and (by_this_try or not held)
     order by image_sha256
        on conflict (image_sha256, config, scope) do update
       set record_id = excluded.record_id, token = excluded.token, batch_id = excluded.batch_id, chunk = excluded.chunk,
           asked_at = excluded.asked_at
     where (a.record_id, a.token) = (select s.by_record, s.by_token from seen as s where s.image_sha256 = a.image_sha256)
 returning a.image_sha256
), swept as (
    -- Deletes twice as many old asks as were acquired, so that the table stays small. A minute is four times the statement timeout: a task
    -- that sees no row also sees the answer. The ask of a record that is due again stays: the bucket may have its answer.
    delete from anomaly.asks
     where ctid = any(array(
        select o.ctid
          from anomaly.asks as o
         where o.asked_at < now() - interval '1 minute'
           and (coalesce((select r.status from anomaly.records as r where r.id = o.record_id), 'done') in ('done', 'quarantined')
                or o.asked_at < now() - interval '1 day')
         order by o.asked_at
         limit (select 2 * count(*) from acquired)
           for update skip locked))
)
select s.image_sha256, s.answer_key, s.heatmap_key, s.created_at, acquired.image_sha256 is not null as acquired,
       s.by_record is not null and not s.by_this_try and s.by_record <> s.record_id as taken_over
  from seen as s
  left join acquired on acquired.image_sha256 = s.image_sha256
