-- Counts the chosen quarantined records by the code of their last error. Each parameter that is null chooses all.
select coalesce(last_error_code, 'none') as error_code, count(*) as records
  from anomaly.records as r
 where status = 'quarantined'
   and captured_at >= coalesce(%(window_start)s::timestamptz, '-infinity')
   and captured_at < coalesce(%(window_end)s::timestamptz, 'infinity')
   and (%(error_code)s::text is null or last_error_code = %(error_code)s::text)
   and (%(record_ids)s::bigint[] is null or r.id = any(%(record_ids)s::bigint[]))
 group by 1
 order by 2 desc, 1
