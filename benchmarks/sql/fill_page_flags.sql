-- Flags, runs and decisions to the records of fill_page.sql, in the same session. A person has decided about one anomaly in two.
insert into anomaly.ai_flags (
       record_id, ai_processed, is_anomaly, needs_review, token, detector, score, threshold, label, image_at, review, reviewed_by, reviewed_at)
select id, true, is_anomaly, is_anomaly and id %% 2 = 0, 1, detector, score, 0.5, label, at - interval '1 hour', v.review,
       case when v.review is not null then 'inspector' end, case when v.review is not null then at end
  from judged
 cross join lateral (
        select case when is_anomaly and id %% 2 = 1 then (array['anomaly', 'normal', 'unsure'])[1 + id / 2 %% 3] end as review) as v
 order by id;
insert into anomaly.reviews (id, record_id, token, verdict, reviewer, at)
select md5('review ' || record_id)::uuid, record_id, token, review, reviewed_by, reviewed_at
  from anomaly.ai_flags where review is not null order by record_id;
insert into anomaly.batches (batch_id, next_chunk, claimed, dag_id, run_id, created_at, updated_at)
select batch_id, 2, count(*), 'anomaly_detection', 'scheduled__' || batch_id, min(at), max(at) from judged group by batch_id;
insert into anomaly.chunks (batch_id, chunk, map_index, try_number, claimed_from, leased_until, opened_at, ended_at, tally)
select batch_id, part, 0, 1, 'pending', max(at), min(at), max(at),
       jsonb_build_object('ended', jsonb_build_object('committed', count(*)), 'timings_ms', '{"detect": {"p50": 250.1, "p95": 290.2}}'::jsonb)
  from (select batch_id, at, (id / 250 %% 2)::integer as part from judged) as parts
 group by batch_id, part;
truncate anomaly.verdict_hours, anomaly.score_days;
update anomaly.verdict_sums set summed_until = '-infinity';
select anomaly.sum_verdicts(step => null);
