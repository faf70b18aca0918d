-- depends: 0004_history_and_comparison
-- The quota of each detector and the shares of its tasks. Unlogged: after a crash of the server the buckets hold a second's worth.
create unlogged table anomaly.detectors (
    detector    text constraint detectors_pkey primary key,
    requests    double precision not null default 0,
    tokens      double precision not null default 0,
    refilled_at timestamptz not null default 'epoch',
    held_until  timestamptz not null default 'epoch'
) with (fillfactor = 50);

create unlogged table anomaly.detector_shares (
    detector   text not null,
    holder     text not null,
    wanted     integer not null,
    granted    integer not null,
    expires_at timestamptz not null,
    constraint detector_shares_pkey primary key (detector, holder)
) with (fillfactor = 50);

-- The row of the detector is the lock: each later statement sees what the previous task has left. A null limit is no limit.
create function anomaly.share_detector(
    in_detector text, in_holder text, in_wanted integer, in_flight integer, in_requests double precision, unused double precision,
    tokens_each double precision, tokens_back double precision, in_hold_s double precision, expires_s double precision,
    most integer, requests_per_s double precision, tokens_per_s double precision, burst_s double precision
) returns table (concurrency integer, requests integer, hold_s double precision) language plpgsql as $$
declare
    bucket anomaly.detectors;
    at     timestamptz;
    holders integer; fair integer;
begin
    insert into anomaly.detectors (detector) values (in_detector) on conflict do nothing;
    select * into bucket from anomaly.detectors as d where d.detector = in_detector for update;
    at := clock_timestamp();
    delete from anomaly.detector_shares as s where s.detector = in_detector and (s.holder = in_holder or s.expires_at <= at);

    -- An equal share, and what other tasks leave of theirs. Requests that other tasks have in flight are not granted again.
    select count(*) + 1, most / (count(*) + 1) into holders, fair from anomaly.detector_shares as s where s.detector = in_detector;
    select case when most is null then in_wanted else greatest(0, least(in_wanted, most - coalesce(sum(s.granted), 0), fair
               + (count(*) filter (where s.holder < in_holder) < most - fair * holders)::integer
               + coalesce(sum(greatest(0, fair - s.wanted)), 0))) end
      into concurrency from anomaly.detector_shares as s where s.detector = in_detector;
    if in_wanted > 0 then
        insert into anomaly.detector_shares (detector, holder, wanted, granted, expires_at)
        values (in_detector, in_holder, in_wanted, greatest(concurrency, in_flight), at + make_interval(secs => expires_s));
    end if;

    -- Token buckets, refilled for the time that has passed. Without a limit they are null, and least() ignores them.
    bucket.requests := case when requests_per_s is not null then least(greatest(1, requests_per_s * burst_s),
        bucket.requests + unused + requests_per_s * extract(epoch from at - bucket.refilled_at)) end;
    bucket.tokens := case when tokens_per_s is not null then least(greatest(tokens_each, tokens_per_s * burst_s),
        bucket.tokens + tokens_back + tokens_per_s * extract(epoch from at - bucket.refilled_at)) end;
    requests := greatest(0, floor(least(in_requests, bucket.requests, bucket.tokens / tokens_each)));
    bucket.held_until := greatest(bucket.held_until, at + make_interval(secs => in_hold_s));
    update anomaly.detectors as d
       set requests = coalesce(bucket.requests - share_detector.requests, 0), refilled_at = at, held_until = bucket.held_until,
           tokens = coalesce(bucket.tokens - share_detector.requests * tokens_each, 0)
     where d.detector = in_detector;
    hold_s := greatest(0, extract(epoch from bucket.held_until - at));
    return next;
end $$;
