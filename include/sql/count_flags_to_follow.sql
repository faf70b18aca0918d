-- Counts the records whose flags have to follow a stored threshold, up to `size`.
select count(*) as records
  from (select from anomaly.flags_to_follow(%(detector)s::text) limit %(size)s::integer) as found
