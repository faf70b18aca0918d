-- Stores a threshold once: see the function in migrations/0020_thresholds.sql.
select anomaly.add_threshold(%(id)s::uuid, %(detector)s::text, %(threshold)s::double precision, %(reason)s::text, %(actor)s::text) as added
