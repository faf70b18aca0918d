-- Returns what this task will not use of a detector's quota, states its demand, and takes its share, which expires.
select concurrency, starts, now_s, hold_s, at_most
  from anomaly.share_detector(
       in_detector => %(detector)s, in_holder => %(holder)s, in_wanted => %(wanted)s, in_flight => %(in_flight)s,
       in_requests => %(requests)s, in_returned => %(returned)s::double precision[], tokens_each => %(tokens_each)s,
       tokens_back => %(tokens_back)s, in_hold_s => %(hold_s)s, in_answers => %(answers)s, expires_s => %(expires_s)s, most => %(most)s,
       requests_per_minute => %(requests_per_minute)s, tokens_per_minute => %(tokens_per_minute)s, period_s => %(period_s)s,
       horizon_s => %(horizon_s)s, late_s => %(late_s)s, pause_max_s => %(pause_max_s)s, probe_s => %(probe_s)s)
