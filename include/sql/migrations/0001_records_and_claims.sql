-- Records, batches and chunks. All times are the database's.
create table anomaly.records (
    id              bigint generated always as identity constraint records_pkey primary key,
    image_url       text not null,
    captured_at     timestamptz not null,
    status          text not null default 'pending',
    attempts        integer not null default 0,
    lost            integer not null default 0,
    not_before      timestamptz,
    token           bigint not null default 0,
    batch_id        uuid,
    chunk           integer,
    last_error_code text,
    last_error      text,
    image_sha256    text,
    processed_at    timestamptz,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    attributes      jsonb not null default '{}',
    constraint records_status_known check (status in ('pending', 'claimed', 'done', 'quarantined')),
    constraint records_attempts_not_negative check (attempts >= 0),
    constraint records_lost_not_negative check (lost >= 0),
    constraint records_claimed_has_chunk check (status <> 'claimed' or (batch_id is not null and chunk is not null))
);

-- One index for each way to claim, with only the rows that it may claim.
create index records_pending on anomaly.records (captured_at, id) where status = 'pending';
create index records_rescore on anomaly.records (captured_at, id, processed_at) where status = 'done';
create index records_quarantined on anomaly.records (captured_at, id) where status = 'quarantined';
create index records_claimed on anomaly.records (batch_id, chunk) where status = 'claimed';

create table anomaly.batches (
    batch_id   uuid constraint batches_pkey primary key,
    began_at   timestamptz,
    next_chunk integer not null default 0,
    claimed    integer not null default 0,
    dag_id     text not null,
    run_id     text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint batches_run_unique unique (dag_id, run_id)
);

create table anomaly.chunks (
    batch_id     uuid not null constraint chunks_batch_fkey references anomaly.batches,
    chunk        integer not null,
    map_index    integer,
    try_number   integer not null default 0,
    claimed_from text not null,
    leased_until timestamptz not null,
    opened_at    timestamptz,
    ended_at     timestamptz,
    alone        bigint,
    tally        jsonb,
    created_at   timestamptz not null default now(),
    constraint chunks_pkey primary key (batch_id, chunk),
    constraint chunks_claimed_from_known check (claimed_from in ('pending', 'done'))
);
create index chunks_live on anomaly.chunks (leased_until) where ended_at is null;
