-- depends: 0019_reviews
-- Thresholds that people have chosen. Rows are only added; the one with the highest number is the threshold of its detector. A commit reads
-- it, and the flags of earlier verdicts follow. Results keep the threshold of their time.
create table anomaly.thresholds (
    id        uuid constraint thresholds_pkey primary key,
    number    bigint generated always as identity,
    detector  text not null,
    threshold double precision not null,
    reason    text not null,
    set_by    text not null,
    set_at    timestamptz not null default clock_timestamp(),
    constraint thresholds_threshold_finite check (threshold > '-infinity' and threshold < 'infinity')
);
create index thresholds_detector on anomaly.thresholds (detector, number);

-- Stores a threshold once, however often it is sent. The lock waits for the commits in progress, which have read the threshold before, and
-- lets later ones begin when they see this one. So a flag with an earlier threshold is in the table once this is committed.
create function anomaly.add_threshold(in_id uuid, in_detector text, in_threshold double precision, in_reason text, in_set_by text)
returns boolean language plpgsql as $$
begin
    lock table anomaly.thresholds in access exclusive mode;
    insert into anomaly.thresholds (id, detector, threshold, reason, set_by)
    values (in_id, in_detector, in_threshold, in_reason, in_set_by)
        on conflict (id) do nothing;
    return found;
end $$;

-- Finds flags with another threshold than the one of their detector. Creating it reads the table once, which is locked against commits meanwhile: one or
-- two seconds for a million records.
create index ai_flags_by_threshold on anomaly.ai_flags (detector, threshold, record_id) where ai_processed;

-- Records whose flags have another threshold than the one that is stored for their detector. Each condition is a range of the index.
-- Inlined into the query that reads it, so that a limit ends the search.
create function anomaly.flags_to_follow(in_detector text) returns table (record_id bigint) language sql stable as $$
    select found.record_id
      from (select distinct on (t.detector) t.detector, t.threshold
              from anomaly.thresholds as t
             where in_detector is null or t.detector = in_detector
             order by t.detector, t.number desc) as stored
     cross join lateral (
        select f.record_id from anomaly.ai_flags as f
         where f.ai_processed and f.detector = stored.detector and f.threshold < stored.threshold
         union all
        select f.record_id from anomaly.ai_flags as f
         where f.ai_processed and f.detector = stored.detector and f.threshold > stored.threshold
         union all
        select f.record_id from anomaly.ai_flags as f
         where f.ai_processed and f.detector = stored.detector and f.threshold is null) as found
$$;

alter table anomaly.processing_log drop constraint processing_log_event_known, add constraint processing_log_event_known check (event in (
    'committed', 'deferred', 'quarantined', 'rescore_failed', 'throttled', 'released', 'expired', 'reopened', 'worker_died', 'requeued',
    'reviewed', 'review_undone', 'threshold_changed'
)) not valid;
