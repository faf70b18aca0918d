-- Counts newest verdicts that repeat the verdict on another image and came back at once. Examines at most %(size)s quick verdicts.
with quick as materialized (
    select a.record_id, a.config, a.run_id, a.image_sha256, a.score, a.label, a.reason, a.regions, a.created_at
      from anomaly.ai_results as a
     where not a.reused and a.latency_ms < 5
       and not exists (select from anomaly.ai_results as newer where newer.record_id = a.record_id and newer.token > a.token)
     limit %(size)s
)
select count(*) as verdicts
  from quick as a
 where exists (
    select from anomaly.ai_results as b
     where b.config = a.config and b.run_id = a.run_id and b.image_sha256 <> a.image_sha256 and not b.reused
       and (b.score, b.label, b.reason, b.regions) is not distinct from (a.score, a.label, a.reason, a.regions)
       and b.created_at between a.created_at - interval '10 minutes' and a.created_at)
