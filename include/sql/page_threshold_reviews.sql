-- Counts the reviews of a detector's records between edges, as page_threshold_records.sql does. `anomalies` and `normals` are those that
-- an estimate may count: on records of the random sample, and on records that were flagged when the decision was made, by the threshold
-- that was stored then or else by the verdict. People choose other records by what they see, so their share would mislead.
with reviewed as (
    select f.record_id, f.detector, f.score, f.review, f.reviewed_at, f.sampled
      from anomaly.ai_flags as f
     where f.review is not null and f.ai_processed and f.detector = %(detector)s::text
       and (%(since)s::timestamptz is null or f.image_at >= %(since)s::timestamptz)
       and (%(source)s::text is null
            or exists (select from anomaly.records as r where r.id = f.record_id and r.source = %(source)s::text))
), judged as (
    select reviewed.score, reviewed.review, reviewed.sampled or coalesce(said.flagged, false) as counts
      from reviewed
      left join lateral (
        select coalesce(a.score >= (select t.threshold from anomaly.thresholds as t
                                     where t.detector = a.detector and t.set_at <= v.at
                                     order by t.number desc
                                     limit 1), a.is_anomaly) as flagged
          from anomaly.reviews as v
          join anomaly.ai_results as a on a.record_id = v.record_id and a.token = v.token
         where v.record_id = reviewed.record_id and v.at = reviewed.reviewed_at and v.verdict is not null
           and a.detector = reviewed.detector and a.score = reviewed.score
         limit 1) as said on true
)
select width_bucket(score, %(edges)s::double precision[]) as cell,
       count(*) filter (where review = 'anomaly') as said_anomaly, count(*) filter (where review = 'normal') as said_normal,
       count(*) filter (where review = 'unsure') as said_unsure,
       count(*) filter (where review = 'anomaly' and counts) as anomalies, count(*) filter (where review = 'normal' and counts) as normals
  from judged
 group by cell
 order by cell
