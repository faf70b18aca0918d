-- depends: 0026_verdict_sums
-- Adds the results of the next `step`, of all times if that is null, and returns whether there are older ones than `grace` left. A result
-- has the time at which its transaction began: the sums go no further than the oldest transaction that writes, and `grace` is for those
-- of other logins, which cannot be seen, and whose statements are stopped after seconds. Of two sessions, one adds.
create function anomaly.sum_verdicts(grace interval default '5 minutes', step interval default '1 hour')
returns boolean language plpgsql as $$
declare after timestamptz; before timestamptz; safe timestamptz;
begin
    select s.summed_until into after from anomaly.verdict_sums as s for update skip locked;
    if not found then
        return false;
    end if;
    select least(clock_timestamp() - grace, min(a.xact_start)) into safe
      from pg_stat_activity as a
     where a.datname = current_database() and a.backend_xid is not null and a.pid <> pg_backend_pid();
    before := least(safe, after + step);
    if before <= after then
        return false;
    end if;
    with found as materialized (
        select date_trunc('hour', a.created_at, 'UTC') as hour, left(a.detector, 600) as detector,
               case when a.score > '-infinity' and a.score < 'infinity' then anomaly.score_bin(a.score) end as score,
               count(*) as verdicts, count(*) filter (where a.is_anomaly) as anomalies, min(a.created_at) as first_at,
               min(a.threshold) as threshold_low, max(a.threshold) as threshold_high
          from anomaly.ai_results as a
         where a.created_at >= after and a.created_at < before
         group by 1, 2, 3
    ), by_hour as (
        insert into anomaly.verdict_hours as h (hour, detector, verdicts, anomalies, first_at, threshold_low, threshold_high)
        select f.hour, f.detector, sum(f.verdicts), sum(f.anomalies), min(f.first_at), min(f.threshold_low), max(f.threshold_high)
          from found as f
         group by f.hour, f.detector
            on conflict (hour, detector) do update
           set verdicts = h.verdicts + excluded.verdicts, anomalies = h.anomalies + excluded.anomalies,
               first_at = least(h.first_at, excluded.first_at), threshold_low = least(h.threshold_low, excluded.threshold_low),
               threshold_high = greatest(h.threshold_high, excluded.threshold_high)
    )
    insert into anomaly.score_days as d (day, detector, score, verdicts, anomalies)
    select date_trunc('day', f.hour, 'UTC'), f.detector, f.score, sum(f.verdicts), sum(f.anomalies)
      from found as f
     where f.score is not null
     group by 1, 2, 3
        on conflict (day, detector, score) do update
       set verdicts = d.verdicts + excluded.verdicts, anomalies = d.anomalies + excluded.anomalies;
    update anomaly.verdict_sums set summed_until = before;
    return before < safe;
end $$;

-- Reads all results once, which takes seconds for a million, and holds no lock that a run waits for.
insert into anomaly.verdict_sums (summed_until) values ('-infinity');
do $$ begin perform anomaly.sum_verdicts(step => null); end $$;
