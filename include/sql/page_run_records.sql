-- Records among the last 10,000 verdicts of a run, anomalies first, by score. The verdict is that of the run, the review the present one.
select a.record_id, a.token, a.score, a.threshold, abs(a.score - a.threshold) as margin, a.is_anomaly, a.label, a.detector, f.image_at,
       f.review, f.reviewed_by, coalesce(f.needs_review, false) as needs_review, a.image_sha256, a.heatmap_key is not null as has_heatmap
  from (select l.record_id, l.token
          from anomaly.processing_log as l
         where l.batch_id = %(batch_id)s and l.event = 'committed'
         order by l.id desc
         limit 10000) as e
  join anomaly.ai_results as a on a.record_id = e.record_id and a.token = e.token
  left join anomaly.ai_flags as f on f.record_id = e.record_id
 order by a.is_anomaly desc, a.score desc, a.record_id desc
 limit %(size)s::integer
