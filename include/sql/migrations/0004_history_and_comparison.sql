-- depends: 0003_earlier_answers
-- The columns of the records that the other views use. To use a table of your own, change only this view.
create view anomaly.captured as
select id as record_id, image_url, captured_at
  from anomaly.records;

-- The events of a record with its results. Query one record_id, ordered by at.
create view anomaly.record_history as
select l.record_id, l.at, l.event, l.attempt, l.token, b.dag_id, b.run_id, l.actor, l.error_code, l.error,
       a.detector, a.config, a.score, a.threshold, a.is_anomaly, a.label, a.reason, a.reused, a.cost, a.image_key, a.answer_key, a.heatmap_key
  from anomaly.processing_log as l
  left join anomaly.ai_results as a on a.record_id = l.record_id and a.token = l.token and l.event = 'committed'
  left join anomaly.batches as b on b.batch_id = l.batch_id;

-- The newest results of two detectors for each record that both have scored. Query two detectors and a range of captured_at.
-- It checks that there is no later result instead of sorting, so that the range and the key limit what is read.
create view anomaly.verdict_pairs as
select c.record_id, c.image_url, c.captured_at,
       f.detector as first_detector, f.score as first_score, f.is_anomaly as first_is_anomaly, f.label as first_label,
       s.detector as second_detector, s.score as second_score, s.is_anomaly as second_is_anomaly, s.label as second_label,
       f.is_anomaly <> s.is_anomaly as changed_sides
  from anomaly.captured as c
  join anomaly.ai_results as f on f.record_id = c.record_id
  join anomaly.ai_results as s on s.record_id = c.record_id and s.detector <> f.detector
 where not exists (
        select from anomaly.ai_results as l where l.record_id = f.record_id and l.detector = f.detector and l.token > f.token)
   and not exists (
        select from anomaly.ai_results as l where l.record_id = s.record_id and l.detector = s.detector and l.token > s.token);

-- Compares two detectors on the records captured in [window_start, window_end): counts and confusion matrix. Null is unbounded.
create function anomaly.compare_detectors(
    first_detector text, second_detector text, window_start timestamptz default null, window_end timestamptz default null
) returns table (
    records bigint, first_anomalies bigint, second_anomalies bigint, both_anomalous bigint, only_first bigint, only_second bigint,
    both_normal bigint, agreement double precision
) language sql stable as $$
    select count(*), count(*) filter (where first_is_anomaly), count(*) filter (where second_is_anomaly),
           count(*) filter (where first_is_anomaly and second_is_anomaly), count(*) filter (where first_is_anomaly and not second_is_anomaly),
           count(*) filter (where second_is_anomaly and not first_is_anomaly), count(*) filter (where not (first_is_anomaly or second_is_anomaly)),
           avg((not changed_sides)::integer)::double precision
      from anomaly.verdict_pairs as p
     where p.first_detector = compare_detectors.first_detector and p.second_detector = compare_detectors.second_detector
       and p.captured_at >= coalesce(compare_detectors.window_start, '-infinity')
       and p.captured_at < coalesce(compare_detectors.window_end, 'infinity')
$$;
