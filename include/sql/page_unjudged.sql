-- Records of one status that have no verdict of their last claim, the newest first. Each status has its index.
select r.id, captured_at as image_at, status, attempts, not_before, last_error_code, last_error, r.image_url
  from anomaly.records as r
 where status = %(status)s::text
   and (%(after)s::timestamptz is null or (captured_at, r.id) < (%(after)s::timestamptz, %(after_id)s::bigint))
 order by captured_at desc, r.id desc
 limit %(size)s::integer
