-- Counts the records that ended in runs since then, those that are in work, and those that are still due.
select (select count(distinct l.record_id)
          from anomaly.batches as b
          join anomaly.processing_log as l on l.batch_id = b.batch_id
         where b.created_at >= %(since)s
           and l.event in ('committed', 'quarantined', 'deferred')) as ended,
       (select count(*) from anomaly.records where status = 'claimed') as claimed,
       (select count(*)
          from anomaly.records
         where status = 'pending' and (not_before is null or not_before <= (select clock_timestamp()))) as due
