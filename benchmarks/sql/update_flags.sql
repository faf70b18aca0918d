insert into anomaly.ai_flags (record_id, ai_processed, is_anomaly, needs_review) values (%(id)s, true, %(is_anomaly)s, %(is_anomaly)s)
    on conflict (record_id) do update
   set ai_processed = true, is_anomaly = excluded.is_anomaly, needs_review = excluded.needs_review, updated_at = now()
