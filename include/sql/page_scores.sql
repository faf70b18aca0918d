-- The distribution of a detector's scores in at most 40 bars of equal width, by verdict, with the thresholds that were used.
with scored as materialized (
    select a.score, a.is_anomaly, a.threshold
      from anomaly.ai_results as a
     where a.created_at >= %(since)s::timestamptz and a.detector = %(detector)s::text
       and a.score > '-infinity' and a.score < 'infinity'
), span as (
    select min(score) as low, max(score) as high, min(threshold) as threshold_low, max(threshold) as threshold_high from scored
)
select span.low, span.high, span.threshold_low, span.threshold_high,
       case when span.high > span.low then least(40, width_bucket(scored.score, span.low, span.high, 40)) else 1 end as bar,
       count(*) as verdicts, count(*) filter (where scored.is_anomaly) as anomalies
  from scored, span
 group by 1, 2, 3, 4, 5
 order by bar
