-- Returns the due record that was captured first, how long ago that was, and its image. No row: nothing is due.
select captured_at as since, extract(epoch from clock_timestamp() - captured_at)::double precision as age_s, r.id as record_id,
       r.image_url
  from anomaly.records as r
 where status = 'pending' and (not_before is null or not_before <= (select clock_timestamp()))
   and captured_at > '-infinity' and captured_at < 'infinity'
 order by captured_at, r.id
 limit 1
