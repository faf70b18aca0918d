-- The detectors of the newest verdicts and the sources, to choose from. Steps from one detector to the next by the index.
with recursive found as (
    (select f.detector from anomaly.ai_flags as f where f.ai_processed and f.detector is not null order by f.detector limit 1)
     union all
    select (select f.detector from anomaly.ai_flags as f where f.ai_processed and f.detector > found.detector order by f.detector limit 1)
      from found
     where found.detector is not null
)
select (select coalesce(array_agg(detector order by detector), '{}')
          from (select detector from found where detector is not null limit 200) as first) as detectors,
       (select f.detector from anomaly.ai_flags as f
         where f.ai_processed and f.detector is not null and f.image_at is not null
         order by f.image_at desc, f.record_id desc limit 1) as newest,
       (select coalesce(array_agg(source order by source), '{}') from (select source from anomaly.sources order by source limit 200) as s) as sources
