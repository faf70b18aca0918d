-- depends: 0017_page
-- The newest verdict of each record on one row, so that the page filters and sorts a million records by an index.
alter table anomaly.ai_flags
    add column token     bigint,                            -- of the result
    add column detector  text,
    add column score     double precision,
    add column threshold double precision,
    add column label     text,
    add column image_at  timestamptz,                       -- when the image was captured
    add column margin    double precision generated always as (abs(score - threshold)) stored;

update anomaly.ai_flags as f
   set token = a.token, detector = a.detector, score = a.score, threshold = a.threshold, label = a.label, image_at = c.captured_at
  from anomaly.ai_results as a
  left join anomaly.captured as c on c.record_id = a.record_id
 where a.record_id = f.record_id
   and not exists (select from anomaly.ai_results as l where l.record_id = a.record_id and l.token > a.token);

create index ai_flags_by_score on anomaly.ai_flags (score, record_id) where ai_processed;
create index ai_flags_by_time on anomaly.ai_flags (image_at, record_id) where ai_processed;
create index ai_flags_by_margin on anomaly.ai_flags (margin, record_id) where ai_processed;
create index ai_flags_by_verdict on anomaly.ai_flags (is_anomaly, score, record_id) where ai_processed;
-- The beginning of a label, since an index holds no row of several kilobytes.
create index ai_flags_by_label on anomaly.ai_flags (left(label, 100), score, record_id) where label is not null;
create index ai_flags_anomalies_by_time on anomaly.ai_flags (image_at, record_id) where is_anomaly;
create index ai_flags_review_by_score on anomaly.ai_flags (score, record_id) where needs_review;
drop index anomaly.ai_flags_to_review;
create index ai_flags_reviewed_by_score on anomaly.ai_flags (score, record_id) where review is not null;

-- Judged records that fulfil each condition that is not null. Inlined into the query that reads it, which orders by an index.
create function anomaly.judged(
    verdict boolean, reviewed text, low double precision, high double precision, in_label text, in_detector text,
    since timestamptz, until timestamptz
) returns setof anomaly.ai_flags language sql stable as $$
    select f.*
      from anomaly.ai_flags as f
     where f.ai_processed
       and (verdict is null or f.is_anomaly = verdict)
       and (low is null or f.score >= low)
       and (high is null or f.score <= high)
       and (in_label is null or (left(f.label, 100) = left(in_label, 100) and f.label = in_label))
       and (in_detector is null or f.detector = in_detector)
       and (since is null or f.image_at >= since)
       and (until is null or f.image_at < until)
       and (reviewed is null
            or case reviewed when 'open' then f.needs_review when 'done' then f.review is not null else f.review = reviewed end)
$$;
