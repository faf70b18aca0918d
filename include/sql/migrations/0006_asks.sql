-- depends: 0005_detector_shares
-- Which record asks a detector about an image right now, so that the others wait for its answer. `scope` is the batch of a fresh run, which
-- asks for itself, and null's UUID otherwise. Not logged: what a crash of the server takes of it costs one more request an image.
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
