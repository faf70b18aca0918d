-- Returns what this task did not use of a detector's quota, states its demand, and takes its share, which expires.
select concurrency, requests, hold_s
  from anomaly.share_detector(
       in_detector => %(detector)s, in_holder => %(holder)s, in_wanted => %(wanted)s, in_flight => %(in_flight)s,
       in_requests => %(requests)s, unused => %(unused)s, tokens_each => %(tokens_each)s, tokens_back => %(tokens_back)s,
       in_hold_s => %(hold_s)s, expires_s => %(expires_s)s, most => %(most)s, requests_per_s => %(requests_per_s)s,
       tokens_per_s => %(tokens_per_s)s, burst_s => %(burst_s)s)
