-- depends: 0001_records_and_claims
-- Without foreign keys to the records, which may be a table of the user. A commit takes the id from the row that it has just updated.
create table anomaly.ai_results (
    record_id    bigint not null,
    token        bigint not null,
    detector     text not null,
    config       text not null,
    score        double precision not null,
    threshold    double precision,
    is_anomaly   boolean not null,
    label        text,
    reason       text,
    regions      jsonb not null default '[]',
    image_sha256 text not null,
    image_key    text not null,
    answer_key   text not null,
    heatmap_key  text,
    reused       boolean not null default false,
    usage        jsonb,
    cost         numeric,
    latency_ms   double precision not null,
    dag_id       text not null,
    run_id       text not null,
    map_index    integer not null,
    try_number   integer not null,
    created_at   timestamptz not null default now(),
    constraint ai_results_pkey primary key (record_id, token)
);

create table anomaly.processing_log (
    id         bigint generated always as identity constraint processing_log_pkey primary key,
    record_id  bigint not null,
    event      text not null,
    at         timestamptz not null default clock_timestamp(),
    attempt    integer not null,
    token      bigint not null,
    batch_id   uuid,
    error_code text,
    error      text,
    timings    jsonb,
    actor      text,
    constraint processing_log_event_known check (event in (
        'committed', 'deferred', 'quarantined', 'rescore_failed', 'throttled', 'released', 'expired', 'reopened', 'worker_died', 'requeued'
    ))
);
create index processing_log_record on anomaly.processing_log (record_id, at);
create index processing_log_batch on anomaly.processing_log (batch_id);

create table anomaly.ai_flags (
    record_id    bigint constraint ai_flags_pkey primary key,
    ai_processed boolean not null default false,
    is_anomaly   boolean,
    needs_review boolean not null default false,
    review       text,
    reviewed_by  text,
    reviewed_at  timestamptz,
    updated_at   timestamptz not null default now(),
    constraint ai_flags_review_has_author check (review is null or (reviewed_by is not null and reviewed_at is not null))
);
create index ai_flags_to_review on anomaly.ai_flags (record_id) where needs_review;
