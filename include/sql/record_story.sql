-- Returns a record with its claim, its flags, and the newest entries of its log and of its results. No row: there is no such record.
select to_jsonb(r) as record,
       (select to_jsonb(f) from anomaly.ai_flags as f where f.record_id = r.id) as flags,
       (select jsonb_build_object('run_id', b.run_id, 'chunk', c.chunk, 'map_index', c.map_index, 'try_number', c.try_number,
                                  'opened_at', c.opened_at, 'leased_until', c.leased_until)
          from anomaly.chunks as c
          join anomaly.batches as b on b.batch_id = c.batch_id
         where r.status = 'claimed' and c.batch_id = r.batch_id and c.chunk = r.chunk) as claim,
       (select coalesce(jsonb_agg(to_jsonb(l) order by l.at, l.id), '[]')
          from (select p.id, p.at, p.event, p.attempt, p.token, b.run_id, p.error_code, p.error, p.timings, p.actor
                  from anomaly.processing_log as p
                  left join anomaly.batches as b on b.batch_id = p.batch_id
                 where p.record_id = r.id
                 order by p.at desc, p.id desc
                 limit %(size)s::integer) as l) as log,
       (select coalesce(jsonb_agg(to_jsonb(v) order by v.token), '[]')
          from (select a.token, a.created_at, a.detector, a.config, a.score, a.threshold, a.is_anomaly, a.label, a.reason, a.regions, a.reused,
                       a.usage, a.cost, a.latency_ms, a.run_id, a.image_key, a.answer_key, a.heatmap_key
                  from anomaly.ai_results as a
                 where a.record_id = r.id
                 order by a.token desc
                 limit %(size)s::integer) as v) as results
  from anomaly.records as r
 where r.id = %(record_id)s
