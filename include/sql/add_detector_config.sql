-- Records that the configuration of a detector has given a readable answer.
insert into anomaly.detector_configs (config) values (%(config)s) on conflict do nothing returning config
