-- Verdicts by time and detector. `step` is the width of a bar: hour or day, in UTC, and `since` the beginning of one. Results that are not
-- in the sums yet are counted here; both are read in one snapshot, so that none is left out or counted twice.
with counted as (
    select h.hour, h.detector, h.verdicts, h.anomalies, h.first_at, h.threshold_low, h.threshold_high
      from anomaly.verdict_hours as h
     where h.hour >= %(since)s::timestamptz
     union all
    select date_trunc('hour', a.created_at, 'UTC'), left(a.detector, 600), count(*), count(*) filter (where a.is_anomaly), min(a.created_at),
           min(a.threshold), max(a.threshold)
      from anomaly.ai_results as a
     where a.created_at >= (select summed_until from anomaly.verdict_sums) and a.created_at >= %(since)s::timestamptz
     group by 1, 2
)
select date_trunc(%(step)s::text, counted.hour, 'UTC') as at, counted.detector, sum(counted.verdicts)::bigint as verdicts,
       sum(counted.anomalies)::bigint as anomalies, min(counted.first_at) as first_at, min(counted.threshold_low) as threshold_low,
       max(counted.threshold_high) as threshold_high
  from counted
 group by 1, counted.detector
 order by 1, min(counted.first_at)
