-- Returns a row if the configuration of a detector has given a readable answer before.
select config from anomaly.detector_configs where config = %(config)s
