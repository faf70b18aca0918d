-- Quarantined records by error code, the most frequent first, each with the newest record as an example. Counts at most 100,000 records.
with failed as materialized (
    select r.id, last_error_code
      from anomaly.records as r
     where status = 'quarantined'
     limit 100000
), codes as (
    select last_error_code, count(*) as records, max(id) as example from failed group by last_error_code
)
select coalesce(codes.last_error_code, '') as code, codes.records, codes.example, r.last_error as error, r.processed_at as failed_at,
       r.image_url
  from codes
  join anomaly.records as r on r.id = codes.example
 order by codes.records desc, code
