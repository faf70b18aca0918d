-- Verdicts by time and detector. `step` is the width of a bar: hour or day, in UTC.
select date_trunc(%(step)s::text, a.created_at, 'UTC') as at, a.detector, count(*) as verdicts,
       count(*) filter (where a.is_anomaly) as anomalies, min(a.created_at) as first_at
  from anomaly.ai_results as a
 where a.created_at >= %(since)s::timestamptz
 group by 1, a.detector
 order by 1, first_at
