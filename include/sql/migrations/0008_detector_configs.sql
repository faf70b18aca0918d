-- depends: 0006_asks
-- Configurations of detectors that have given a readable answer. A refusal by one of them concerns a record rather than a setting.
create table anomaly.detector_configs (
    config            text constraint detector_configs_pkey primary key,
    first_answered_at timestamptz not null default now()
);
