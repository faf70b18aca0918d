-- The runs that hold a chunk now: how many records ended in the last minute, or since the run began if that was later.
-- The index of times serves now(), which is one value for the whole statement, but not clock_timestamp().
with live as (
    select distinct batch_id
      from anomaly.chunks
     where ended_at is null and leased_until > clock_timestamp() and opened_at is not null
), recent as (
    select l.batch_id, count(*) as records
      from anomaly.processing_log as l
     where l.at > now() - interval '60 s' and l.event in ('committed', 'quarantined', 'deferred', 'rescore_failed')
     group by l.batch_id
)
select b.dag_id, b.run_id, b.created_at as since, coalesce(recent.records, 0) as records,
       greatest(1, least(60, extract(epoch from clock_timestamp() - b.created_at)))::double precision as seconds
  from live
  join anomaly.batches as b on b.batch_id = live.batch_id
  left join recent on recent.batch_id = live.batch_id
 order by b.created_at
