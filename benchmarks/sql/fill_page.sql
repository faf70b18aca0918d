-- Ninety days of work until now: judged records, some that failed, and some that wait. All values follow from the number of a record.
create temporary table made as
select i as id, now() - (%(records)s - i) * (interval '90 days' / %(records)s) as at,
       (i * 7919 %% 10007) / 10007.0 as luck, md5(i::text) as digest, md5('batch ' || i / 500)::uuid as batch_id
  from generate_series(1, %(records)s::bigint) as i;
create temporary table judged as
select id, at, luck, digest, batch_id,
       case when luck < 0.1 then 0.5 + luck * 5 else (luck - 0.1) / 1.8 end as score,
       luck < 0.1 as is_anomaly,
       case when luck < 0.06 then 'crack' when luck < 0.095 then 'dead cell' when luck < 0.1 then 'finger' when id %% 50000 = 0 then 'unusual'
            else 'normal' end as label,
       case when id %% 5000 = 7 then 'chat@1' when id < %(records)s * 0.6 then 'padim@1' else 'padim@2' end as detector
  from made;

insert into anomaly.records (id, image_url, captured_at, status, attempts, token, batch_id, chunk, image_sha256, processed_at, attributes)
overriding system value
select id, 'https://images.example/line-4/camera-2/' || id, at - interval '1 hour', 'done', 1, 1, batch_id, 0, digest || digest, at,
       jsonb_build_object('line', 'L' || id %% 3, 'module', 'M-' || id %% 20000)
  from judged order by id;
select setval(pg_get_serial_sequence('anomaly.records', 'id'), (select max(id) from anomaly.records));
insert into anomaly.records (image_url, captured_at, status, attempts, last_error_code, last_error, processed_at)
select 'https://images.example/line-5/camera-1/' || id, at, 'quarantined', 1,
       (array['image_not_found', 'image_truncated', 'address_blocked', 'detector_rejected'])[1 + id / 7 %% 4], 'answered 404 Not Found', at
  from made where id %% 50 = 1;
insert into anomaly.records (image_url, captured_at, attempts, not_before, last_error_code, last_error)
select 'https://images.example/line-6/camera-1/' || i, now() - i * interval '1 s', (i %% 10 = 0)::integer,
       case when i %% 10 = 0 then now() + interval '1 hour' end,
       case when i %% 10 = 0 then 'detector_unavailable' end, case when i %% 10 = 0 then 'answered 503' end
  from generate_series(1, %(waiting)s::bigint) as i;

insert into anomaly.ai_results (
       record_id, token, detector, config, score, threshold, is_anomaly, label, regions, image_sha256, image_key, answer_key, heatmap_key,
       latency_ms, usage, dag_id, run_id, map_index, try_number, created_at)
select id, 1, detector, 'c0' || digest || left(digest, 30), score, 0.5, is_anomaly, label,
       case when is_anomaly then '[{"x": 0.1, "y": 0.2, "width": 0.3, "height": 0.4, "score": 0.9}]'::jsonb else '[]' end,
       digest || digest, 'images/sha256/' || left(digest, 2) || '/' || digest || digest || '.jpg',
       'answers/' || digest || digest || '.json', 'heatmaps/' || digest || digest || '.png', 200 + luck * 100, '{"images": 1}',
       'anomaly_detection', 'scheduled__' || batch_id, 0, 1, at
  from judged order by id;
insert into anomaly.processing_log (record_id, event, at, attempt, token, batch_id, timings)
select id, 'committed', at, 1, 1, batch_id,
       jsonb_build_object('fetch', 20 + luck * 9, 'detect', 200 + luck * 100, 'archive', 50 + luck * 30, 'commit', 2 + luck)
  from judged order by id;
