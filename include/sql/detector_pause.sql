-- Returns until when all tasks leave a detector alone; no row if they do not.
select held_until from anomaly.detectors where detector = %(detector)s and held_until > clock_timestamp()
