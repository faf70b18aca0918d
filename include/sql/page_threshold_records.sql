-- Counts the judged records of a detector between edges: cell 0 is below the first edge, cell n from the n-th edge on.
select width_bucket(f.score, %(edges)s::double precision[]) as cell, count(*) as records, min(f.image_at) as since, max(f.image_at) as until
  from anomaly.ai_flags as f
 where f.ai_processed and f.detector = %(detector)s::text
   and (%(since)s::timestamptz is null or f.image_at >= %(since)s::timestamptz)
   and (%(source)s::text is null
        or exists (select from anomaly.records as r where r.id = f.record_id and r.source = %(source)s::text))
 group by cell
 order by cell
