-- Counts the quarantined and the pending records by the code of their last error, at most a million each, with the newest quarantined
-- record as an example, or else the newest pending one. The codes are found by jumping from one to the next in the index.
with recursive codes as (
    (select last_error_code as code
       from anomaly.records
      where last_error_code is not null and status in ('pending', 'quarantined')
      order by last_error_code
      limit 1)
     union all
    select (select last_error_code
              from anomaly.records
             where last_error_code > c.code and status in ('pending', 'quarantined')
             order by last_error_code
             limit 1)
      from codes as c
     where c.code is not null
)
select c.code, q.records as quarantined, p.records as pending, e.record_id, e.error, e.failed_at, e.image_url
  from codes as c
 cross join lateral (
        select count(*) as records
          from (select from anomaly.records where last_error_code = c.code and status = 'quarantined' limit 1000000) as counted) as q
 cross join lateral (
        select count(*) as records
          from (select from anomaly.records where last_error_code = c.code and status = 'pending' limit 1000000) as counted) as p
 cross join lateral (
        select r.id, last_error, processed_at, r.image_url
          from anomaly.records as r
         where last_error_code = c.code and status in ('pending', 'quarantined')
         order by last_error_code desc, status desc, r.id desc
         limit 1) as e (record_id, error, failed_at, image_url)
 where c.code is not null
 order by q.records desc, p.records desc, c.code
