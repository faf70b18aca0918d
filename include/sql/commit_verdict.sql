-- Writes the four updates of a verdict, or none of them. The fence is the update of the record: a stale token matches no row, and the
-- other parts take their rows from it. A fence written as a select would let a stale token commit. `status || ''` makes Postgres look up
-- the primary key: it would scan the index of claimed records, which its statistics usually show as nearly empty.
with held as (
    update anomaly.records
       set status = 'done', attempts = attempts + 1, lost = 0, not_before = null, last_error_code = null, last_error = null,
           image_sha256 = %(image_sha256)s, ask_anew = null, processed_at = now(), updated_at = now()
     where id = %(record_id)s and token = %(token)s and status || '' = 'claimed'
 returning id, token, attempts, batch_id, captured_at
), judged as (
    -- A threshold that is stored for the detector replaces the one of the answer.
    select held.id, held.token, held.captured_at, coalesce(stored.threshold, %(threshold)s::double precision) as threshold,
           coalesce(%(score)s::double precision >= stored.threshold, %(is_anomaly)s::boolean) as is_anomaly
      from held
      left join lateral (
        select t.threshold from anomaly.thresholds as t where t.detector = %(detector)s::text order by t.number desc limit 1
      ) as stored on true
), result as (
    insert into anomaly.ai_results (
           record_id, token, detector, config, score, threshold, is_anomaly, label, reason, regions, regions_unit, image_sha256,
           image_width_px, image_height_px, image_media_type, image_key, answer_key, heatmap_key, reused, usage, cost, latency_ms,
           dag_id, run_id, map_index, try_number)
    select id, token, %(detector)s::text, %(config)s::text, %(score)s::double precision, threshold, is_anomaly, %(label)s::text,
           %(reason)s::text, %(regions)s::jsonb, %(regions_unit)s::text, %(image_sha256)s::text, %(image_width_px)s::integer,
           %(image_height_px)s::integer, %(image_media_type)s::text, %(image_key)s::text, %(answer_key)s::text, %(heatmap_key)s::text,
           %(reused)s::boolean, %(usage)s::jsonb, %(cost)s::numeric, %(latency_ms)s::double precision, %(dag_id)s::text,
           %(run_id)s::text, %(map_index)s::integer, %(try_number)s::integer
      from judged
), logged as (
    insert into anomaly.processing_log (record_id, event, attempt, token, batch_id, timings)
    select id, 'committed', attempts, token, batch_id, %(timings)s::jsonb from held
), flagged as (
    -- A person's review stays, and is not requested again. A record is drawn for the sample once.
    insert into anomaly.ai_flags as f (
           record_id, ai_processed, is_anomaly, needs_review, token, detector, score, threshold, label, image_at, sampled, sample_share)
    select id, true, is_anomaly, is_anomaly or %(sampled)s::boolean, token, %(detector)s::text, %(score)s::double precision, threshold,
           %(label)s::text, captured_at, %(sampled)s::boolean, %(sample_share)s::double precision
      from judged
        on conflict (record_id) do update
       set ai_processed = true, is_anomaly = excluded.is_anomaly, token = excluded.token, detector = excluded.detector,
           score = excluded.score, threshold = excluded.threshold, label = excluded.label, image_at = excluded.image_at, updated_at = now(),
           sampled = case when f.sample_share is null then excluded.sampled else f.sampled end,
           sample_share = coalesce(f.sample_share, excluded.sample_share),
           needs_review = f.review is null
                      and (excluded.is_anomaly or case when f.sample_share is null then excluded.sampled else f.sampled end)
)
select id from held
