-- Failures among the last 10,000 events of a run by error code, the most frequent first, each with its newest example.
with failed as materialized (
    select l.id, l.record_id, l.error_code, l.error
      from (select id, record_id, event, error_code, error
              from anomaly.processing_log
             where batch_id = %(batch_id)s
             order by id desc
             limit 10000) as l
     where l.error_code is not null and l.event in ('quarantined', 'deferred', 'rescore_failed', 'worker_died')
), codes as (
    select error_code, count(distinct record_id) as records, max(id) as newest from failed group by error_code
)
select codes.error_code as code, codes.records, failed.record_id as example, failed.error
  from codes
  join failed on failed.id = codes.newest
 order by codes.records desc, code
