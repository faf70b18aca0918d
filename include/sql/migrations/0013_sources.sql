-- depends: 0011_compare_known_detectors
-- Version 0.1.0 could work without this table. Ids start after those of the results, which are of records in a table of the user.
do $$
begin
    if to_regclass('anomaly.records') is null then
        create table anomaly.records (
            id              bigint generated always as identity constraint records_pkey primary key,
            image_url       text not null,
            captured_at     timestamptz not null constraint records_captured_at_finite check (isfinite(captured_at)),
            status          text not null default 'pending',
            attempts        integer not null default 0 constraint records_attempts_not_negative check (attempts >= 0),
            lost            integer not null default 0 constraint records_lost_not_negative check (lost >= 0),
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
            constraint records_claimed_has_chunk check (status <> 'claimed' or (batch_id is not null and chunk is not null))
        );
        create index records_pending on anomaly.records (captured_at, id) where status = 'pending';
        create index records_rescore on anomaly.records (captured_at, id, processed_at) where status = 'done';
        create index records_quarantined on anomaly.records (captured_at, id) where status = 'quarantined';
        create index records_claimed on anomaly.records (batch_id, chunk) where status = 'claimed';
        perform setval(pg_get_serial_sequence('anomaly.records', 'id'), greatest(
            (select max(record_id) from anomaly.ai_results), (select max(record_id) from anomaly.processing_log), 1));
    end if;
end
$$;

-- Records of a source, a table or view of the user: the name of the source and the key of its row. Both are null in other records.
alter table anomaly.records
    add column source     text,
    add column source_key text,
    add constraint records_source_has_key check ((source is null) = (source_key is null));
create unique index records_source_key on anomaly.records (source, source_key) where source is not null;

create table anomaly.sources (
    source      text constraint sources_pkey primary key,
    config      jsonb not null,
    found_until timestamptz,  -- rows captured before have been looked at; null: none
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);
