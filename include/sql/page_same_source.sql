-- The judged images of the same source before a record, the newest first: of the same table of the user, with the same attributes. Only the
-- `size` images before it are looked at, by the index of their times, however long ago the last one of that source was.
select f.record_id, f.token, f.score, f.is_anomaly, f.detector, f.review, f.reviewed_by, f.image_at
  from (select b.record_id, b.token, b.score, b.is_anomaly, b.detector, b.review, b.reviewed_by, b.image_at
          from anomaly.ai_flags as b
         where b.ai_processed and (b.image_at, b.record_id) < (%(image_at)s::timestamptz, %(record_id)s::bigint)
         order by b.image_at desc, b.record_id desc
         limit %(size)s::integer) as f
 cross join lateral (  -- by the key: a join would read the whole table
        select r.source, r.attributes from anomaly.records as r where r.id = f.record_id limit 1) as r
 where r.source is not distinct from %(source)s::text and r.attributes @> %(same)s::jsonb
 order by f.image_at desc, f.record_id desc
