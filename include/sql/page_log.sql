-- The last events of a record, the newest first.
select l.at, l.event, l.attempt, l.token, l.error_code, l.error, l.timings, l.actor, b.run_id
  from anomaly.processing_log as l
  left join anomaly.batches as b on b.batch_id = l.batch_id
 where l.record_id = %(record_id)s::bigint
 order by l.at desc, l.id desc
 limit 100
