-- The distribution of a detector's finite scores since the beginning of a day (UTC), by the bins of score_bin. See page_verdicts.sql.
with counted as (
    select d.score, d.verdicts, d.anomalies
      from anomaly.score_days as d
     where d.day >= %(since)s::timestamptz and d.detector = %(detector)s::text
     union all
    select anomaly.score_bin(a.score), count(*), count(*) filter (where a.is_anomaly)
      from anomaly.ai_results as a
     where a.created_at >= (select summed_until from anomaly.verdict_sums) and a.created_at >= %(since)s::timestamptz
       and left(a.detector, 600) = %(detector)s::text and a.score > '-infinity' and a.score < 'infinity'
     group by 1
)
select counted.score, sum(counted.verdicts)::bigint as verdicts, sum(counted.anomalies)::bigint as anomalies
  from counted
 group by counted.score
 order by counted.score
