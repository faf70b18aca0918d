-- depends: 0006_asks
-- Grants to start requests at certain times replace token buckets, and a long pause ends with a single request.
alter table anomaly.detectors
    drop column requests, drop column tokens, drop column refilled_at,
    add column next_request_at double precision not null default 0,  -- the times of starts are seconds since the epoch
    add column next_tokens_at  double precision not null default 0,
    add column returned        double precision[] not null default '{}',
    add column probe_at        timestamptz;  -- null: the detector has answered since its last long pause
drop function anomaly.share_detector;
