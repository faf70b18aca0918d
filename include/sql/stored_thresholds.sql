-- Returns the stored thresholds of a detector, the newest first.
select t.id, t.threshold, t.reason, t.set_by, t.set_at
  from anomaly.thresholds as t
 where t.detector = %(detector)s::text
 order by t.number desc
 limit %(size)s::integer
