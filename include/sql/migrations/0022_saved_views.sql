-- depends: 0019_reviews
-- Filters of the gallery that people have saved, each under a name of its owner.
create table anomaly.saved_views (
    id         bigint generated always as identity constraint saved_views_pkey primary key,
    owner      text not null,
    name       text not null,
    query      text not null,                               -- of the gallery's address
    created_at timestamptz not null default now(),
    constraint saved_views_name_unique unique (owner, name)
);
