-- Returns the error of the record that failed last in the runs since then.
select l.error_code, l.error
  from anomaly.batches as b
  join anomaly.processing_log as l on l.batch_id = b.batch_id
 where b.created_at >= %(since)s and l.error_code is not null
 order by l.at desc, l.id desc
 limit 1
