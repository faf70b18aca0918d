-- Counts records by status, and the commits of the runs since then with the seconds from the first claim to the last commit.
select coalesce((select jsonb_object_agg(status, records)
                   from (select status, count(*) as records from anomaly.records group by status) as s), '{}') as states,
       count(*) as committed,
       coalesce(extract(epoch from max(l.at) - min(b.created_at)), 0)::float8 as took_s
  from anomaly.batches as b
  join anomaly.processing_log as l on l.batch_id = b.batch_id and l.event = 'committed'
 where b.created_at >= %(since)s
