-- depends: 0010_finite_times
-- Unlike before, refuses the name of a detector that has no results, instead of returning zeros.
create or replace function anomaly.compare_detectors(
    first_detector text, second_detector text, window_start timestamptz default null, window_end timestamptz default null
) returns table (
    records bigint, first_anomalies bigint, second_anomalies bigint, both_anomalous bigint, only_first bigint, only_second bigint,
    both_normal bigint, agreement double precision
) language plpgsql stable as $$
declare
    name text;
begin
    foreach name in array array[compare_detectors.first_detector, compare_detectors.second_detector] loop
        if not exists (select from anomaly.ai_results as a where a.detector = name) then
            raise exception 'there are no results of a detector %', coalesce(quote_literal(name), 'null')
                using errcode = 'invalid_parameter_value',
                      hint = 'there are results of: '
                          || coalesce((select string_agg(distinct a.detector, ', ') from anomaly.ai_results as a), 'none');
        end if;
    end loop;
    return query
    select count(*), count(*) filter (where p.first_is_anomaly), count(*) filter (where p.second_is_anomaly),
           count(*) filter (where p.first_is_anomaly and p.second_is_anomaly),
           count(*) filter (where p.first_is_anomaly and not p.second_is_anomaly),
           count(*) filter (where p.second_is_anomaly and not p.first_is_anomaly),
           count(*) filter (where not (p.first_is_anomaly or p.second_is_anomaly)),
           avg((not p.changed_sides)::integer)::double precision
      from anomaly.verdict_pairs as p
     where p.first_detector = compare_detectors.first_detector and p.second_detector = compare_detectors.second_detector
       and p.captured_at >= coalesce(compare_detectors.window_start, '-infinity')
       and p.captured_at < coalesce(compare_detectors.window_end, 'infinity');
end
$$;
