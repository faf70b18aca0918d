-- Reports a batch in one snapshot: outcomes by event and error code, records by status, the distribution of each timing, the tallies of
-- its chunks, and its anomalies.
with ends as materialized (
    select record_id, token, event, error_code, timings
      from anomaly.processing_log
     where batch_id = %(batch_id)s
), touched as (
    -- By the log and the index of claimed records, since an index on batch_id alone would make every claim more expensive.
    select record_id as id from ends
     union
    select id from anomaly.records where batch_id = %(batch_id)s and status = 'claimed'
), statuses as (
    select r.status, count(*) as records
      from touched
      join anomaly.records as r on r.id = touched.id
     where r.batch_id = %(batch_id)s
     group by r.status
), events as (
    select event, error_code, count(*) as ends from ends group by event, error_code
), spreads as (
    select t.key as name, count(*) as measured,
           percentile_disc(0.5) within group (order by t.value::double precision) as p50,
           percentile_disc(0.95) within group (order by t.value::double precision) as p95,
           max(t.value::double precision) as most
      from ends, jsonb_each_text(ends.timings) as t
     group by t.key
)
select coalesce((select jsonb_object_agg(status, records) from statuses), '{}') as statuses,
       coalesce((select jsonb_agg(jsonb_build_array(event, error_code, ends) order by event, error_code) from events), '[]') as events,
       coalesce((select jsonb_object_agg(name, jsonb_build_array(measured, p50, p95, most)) from spreads), '{}') as timings,
       coalesce((select jsonb_object_agg(chunk, tally) from anomaly.chunks where batch_id = %(batch_id)s and tally is not null), '{}') as tallies,
       count(*) filter (where a.is_anomaly) as anomalies,
       count(*) filter (where a.reused) as reused
  from ends
  join anomaly.ai_results as a on a.record_id = ends.record_id and a.token = ends.token
 where ends.event = 'committed'
