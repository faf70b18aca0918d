-- depends: 0019_reviews
-- Sums of the results, so that charts over months read thousands of rows instead of millions. A result is never changed, so that each is
-- added once: those before `summed_until` are in the sums, and statements count the later ones themselves.
create table anomaly.verdict_hours (
    hour           timestamptz not null,
    detector       text not null,               -- the beginning of a name, since an index holds no row of several kilobytes
    verdicts       bigint not null,
    anomalies      bigint not null,
    first_at       timestamptz not null,
    threshold_low  double precision,
    threshold_high double precision,
    constraint verdict_hours_pkey primary key (hour, detector)
);

create table anomaly.score_days (
    day       timestamptz not null,
    detector  text not null,
    score     double precision not null,        -- see score_bin
    verdicts  bigint not null,
    anomalies bigint not null,
    constraint score_days_pkey primary key (day, detector, score)
);

create table anomaly.verdict_sums (
    id           boolean not null default true constraint verdict_sums_pkey primary key constraint verdict_sums_one_row check (id),
    summed_until timestamptz not null
);

-- The lower end of a score's bin. A bin is a twentieth of the score's power of ten wide, so that there are at most 180 for each.
create function anomaly.score_bin(score double precision) returns double precision language sql immutable as $$
    select floor(score / (0.05 * power(10.0::double precision, greatest(floor(log(nullif(abs(score), 0))), -12))) + 1e-9)
           * (0.05 * power(10.0::double precision, greatest(floor(log(nullif(abs(score), 0))), -12)))
$$;
