-- Verdicts of the runs since then on records that have a label.
select a.score, a.is_anomaly, (r.attributes ->> 'defect_probability')::float8 > 0 as is_defective
  from anomaly.batches as b
  join anomaly.processing_log as l on l.batch_id = b.batch_id and l.event = 'committed'
  join anomaly.ai_results as a on a.record_id = l.record_id and a.token = l.token
  join anomaly.records as r on r.id = l.record_id
 where b.created_at >= %(since)s and r.attributes ? 'defect_probability'
