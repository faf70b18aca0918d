-- depends: 0007_detector_schedule 0008_detector_configs
-- The row of the detector is the lock: each later statement sees what the previous task has left. A null limit is no limit.
-- Starts are spaced so that no minute holds more than the quota (GCRA, ITU-T I.371): the n requests of a quota take period_s, which is a
-- minute and the time by which a start may be late. Free space beyond the horizon goes to a task only up to its equal part.
create function anomaly.share_detector(
    in_detector text, in_holder text, in_wanted integer, in_flight integer, in_requests integer, in_returned double precision[],
    tokens_each double precision, tokens_back double precision, in_hold_s double precision, in_answers boolean,
    expires_s double precision, most integer, requests_per_minute double precision, tokens_per_minute double precision,
    period_s double precision, horizon_s double precision, late_s double precision, pause_max_s double precision, probe_s double precision
) returns table (concurrency integer, starts double precision[], now_s double precision, hold_s double precision, at_most integer)
language plpgsql as $$ declare
    d anomaly.detectors; at timestamptz; first double precision; holders integer; fair integer; room integer;
    request_s double precision := period_s / requests_per_minute;
    token_s   double precision := period_s * case when tokens_each > tokens_per_minute then tokens_each / tokens_per_minute
                                                  else 1 / floor(tokens_per_minute / tokens_each) end;
    step      double precision := greatest(request_s, token_s);
begin
    insert into anomaly.detectors (detector) values (in_detector) on conflict do nothing;
    select * into d from anomaly.detectors as t where t.detector = in_detector for update;
    at := clock_timestamp();
    now_s := extract(epoch from at);
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

    -- Returned starts first. A clock that was set back must not block the detector for as long.
    select coalesce(array_agg(s order by s), '{}') into d.returned from unnest(d.returned || in_returned) as s where s > now_s - late_s / 2;
    starts := d.returned[:in_requests];
    d.returned := d.returned[in_requests + 1:];
    d.next_request_at := least(d.next_request_at, now_s + 3 * horizon_s + coalesce(request_s, 0));
    d.next_tokens_at := least(d.next_tokens_at - coalesce(tokens_back * period_s / tokens_per_minute, 0), now_s + 600);
    first := greatest(now_s - late_s / 2, d.next_request_at, d.next_tokens_at);
    room := least(in_requests - cardinality(starts), greatest(floor((now_s + horizon_s - first) / step) + 1,
            case when first < now_s + 2 * horizon_s then floor(horizon_s / step / holders) end));
    if room > 0 then
        starts := starts || array(select first + n * step from generate_series(0, room - 1) as n);
        d.next_request_at := first + (room - 1) * step + coalesce(request_s, 0);
        d.next_tokens_at := coalesce(first + (room - 1) * step + token_s, 0);
    end if;

    -- After a long pause one task sends one request; the others wait until it is answered, or for another minute.
    d.held_until := least(greatest(d.held_until, at + make_interval(secs => nullif(in_hold_s, 0))), at + make_interval(secs => pause_max_s));
    d.probe_at := case when in_hold_s >= probe_s then d.held_until when not in_answers then d.probe_at end;
    at_most := case when d.probe_at <= at and d.held_until <= at then 1 when d.probe_at is not null then 0 end;
    d.probe_at := case when at_most = 1 then at + make_interval(secs => probe_s) else d.probe_at end;
    update anomaly.detectors as t
       set (next_request_at, next_tokens_at, returned, held_until, probe_at)
         = row (d.next_request_at, d.next_tokens_at, d.returned, d.held_until, d.probe_at) where t.detector = in_detector;
    hold_s := greatest(0, extract(epoch from d.held_until - at));
    return next;
end $$;
