-- Returns records whose flags have to follow a stored threshold, at most `size` of them: see the function in migrations/0020_thresholds.sql.
select found.record_id
  from anomaly.flags_to_follow(%(detector)s::text) as found
 where found.record_id <> all(%(skipped)s::bigint[])
 limit %(size)s::integer
