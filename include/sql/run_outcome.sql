-- Counts all records by status, and the commits and anomalies of runs since then, with the seconds from the first claim to the last commit.
select coalesce((select jsonb_object_agg(status, records)
                   from (select status, count(*) as records from anomaly.records group by status) as s), '{}') as states,
       count(*) as committed,
       count(*) filter (where a.is_anomaly) as anomalies,
       coalesce(extract(epoch from max(l.at) - min(b.created_at)), 0)::float8 as took_s
  from anomaly.batches as b
  join anomaly.processing_log as l on l.batch_id = b.batch_id and l.event = 'committed'
  join anomaly.ai_results as a on a.record_id = l.record_id and a.token = l.token
 where b.created_at >= %(since)s
