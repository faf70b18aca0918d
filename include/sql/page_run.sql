-- A run: its batch, and what its finished chunks counted.
select b.created_at as since, b.began_at is not null as is_open, b.claimed, chunks.until,
       coalesce(chunks.committed, 0) as committed, coalesce(chunks.quarantined, 0) as quarantined, coalesce(chunks.deferred, 0) as deferred,
       coalesce(chunks.released, 0) as released
  from anomaly.batches as b
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
 where b.batch_id = %(batch_id)s
