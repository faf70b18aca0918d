insert into anomaly.processing_log (record_id, event, attempt, token) values (%(id)s, 'committed', 1, 1)
