-- The labels and detectors of the newest verdicts, to choose from.
select coalesce(array_agg(distinct f.label) filter (where f.label is not null), '{}') as labels,
       coalesce(array_agg(distinct f.detector) filter (where f.detector is not null), '{}') as detectors
  from (select label, detector from anomaly.ai_flags where ai_processed order by image_at desc, record_id desc limit 2000) as f
