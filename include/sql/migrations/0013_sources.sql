-- depends: 0011_compare_known_detectors
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
