-- The last runs: what their finished chunks counted, and the median and the 95th percentile of each stage over their last 1,000 verdicts.
select b.dag_id, b.run_id, b.created_at as since, b.claimed, b.began_at is not null as is_open, chunks.until,
       coalesce(chunks.committed, 0) as committed, coalesce(chunks.quarantined, 0) as quarantined, coalesce(chunks.deferred, 0) as deferred,
       coalesce(chunks.released, 0) as released, stages.verdicts, stages.anomalies, stages.fetch, stages.detect, stages.archive, stages.commit
  from (select batch_id, dag_id, run_id, created_at, claimed, began_at from anomaly.batches order by created_at desc limit %(size)s) as b
  left join lateral (
        select max(c.ended_at) as until,
               sum((c.tally #>> '{ended,committed}')::bigint)::bigint as committed,
               sum((c.tally #>> '{ended,quarantined}')::bigint)::bigint as quarantined,
               sum(coalesce((c.tally #>> '{ended,deferred}')::bigint, 0)
                   + coalesce((c.tally #>> '{ended,rescore_failed}')::bigint, 0))::bigint as deferred,
               sum(coalesce((c.tally #>> '{ended,released}')::bigint, 0)
                   + coalesce((c.tally #>> '{ended,throttled}')::bigint, 0))::bigint as released
          from anomaly.chunks as c
         where c.batch_id = b.batch_id
       ) as chunks on true
  left join lateral (
        select count(*) as verdicts, count(*) filter (where a.is_anomaly) as anomalies,
               percentile_disc(array[0.5, 0.95]) within group (order by (e.timings ->> 'fetch')::double precision) as fetch,
               percentile_disc(array[0.5, 0.95]) within group (order by (e.timings ->> 'detect')::double precision) as detect,
               percentile_disc(array[0.5, 0.95]) within group (order by (e.timings ->> 'archive')::double precision) as archive,
               percentile_disc(array[0.5, 0.95]) within group (order by (e.timings ->> 'commit')::double precision) as commit
          from (select l.record_id, l.token, l.timings
                  from anomaly.processing_log as l
                 where l.batch_id = b.batch_id and l.event = 'committed'
                 order by l.id desc
                 limit 1000) as e
          join anomaly.ai_results as a on a.record_id = e.record_id and a.token = e.token
       ) as stages on true
 order by b.created_at desc
