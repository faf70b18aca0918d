-- Counts the quarantined and the pending records by the code of their last error, at most a million each, with the newest record as an
-- example. The codes are found by jumping from one to the next in the index.
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
select c.code, n.quarantined, n.pending, e.record_id, e.error, e.image_url
  from codes as c
 cross join lateral (
        select count(*) filter (where status = 'quarantined') as quarantined, count(*) filter (where status = 'pending') as pending
          from (select status
                  from anomaly.records
                 where last_error_code = c.code and status in ('pending', 'quarantined')
                 limit 1000000) as counted) as n
 cross join lateral (
        select r.id, last_error, r.image_url
          from anomaly.records as r
         where last_error_code = c.code and status in ('pending', 'quarantined')
         order by last_error_code, r.id desc
         limit 1) as e (record_id, error, image_url)
 where c.code is not null
 order by n.quarantined desc, n.pending desc, c.code
