insert into anomaly.ai_results (
       record_id, token, detector, config, score, threshold, is_anomaly, label, regions, image_sha256, image_key, answer_key, latency_ms,
       dag_id, run_id, map_index, try_number)
values (%(id)s, 1, %(detector)s, 'none', %(score)s, %(threshold)s, %(is_anomaly)s, %(label)s, %(regions)s, %(image_sha256)s,
       %(image_key)s, %(answer_key)s, %(latency_ms)s, 'none', 'none', 0, 1)
