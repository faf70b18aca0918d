-- depends: 0005_detector_shares
-- An ask: the record that asks a detector about an image, while others wait for its answer. `scope` is the batch of a fresh run, which asks
-- for itself alone, or the nil UUID. Unlogged: after a crash of the server, at most one more request for an image is sent.
create unlogged table anomaly.asks (
    image_sha256 text not null,
    config       text not null,
    scope        uuid not null,
    record_id    bigint not null,
    token        bigint not null,
    batch_id     uuid not null,
    chunk        integer not null,
    asked_at     timestamptz not null,
    constraint asks_pkey primary key (image_sha256, config, scope)
);
create index asks_asked_at on anomaly.asks (asked_at);
