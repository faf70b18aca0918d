-- depends: 0018_gallery
-- Decisions of people. Rows are only added: one that takes back another has its id. `number` orders them, since each is written
-- while the flags of its record are locked.
create table anomaly.reviews (
    id         uuid constraint reviews_pkey primary key,
    number     bigint generated always as identity,
    record_id  bigint not null,
    token      bigint not null,
    verdict    text,
    label      text,
    comment    text,
    takes_back uuid constraint reviews_takes_back_fkey references anomaly.reviews,
    reviewer   text not null,
    at         timestamptz not null default clock_timestamp(),
    constraint reviews_verdict_known check (verdict in ('anomaly', 'normal', 'unsure')),
    constraint reviews_decides_or_takes_back check ((verdict is null) = (takes_back is not null))
);
create index reviews_record on anomaly.reviews (record_id, number);
create index reviews_taken_back on anomaly.reviews (takes_back) where takes_back is not null;
create index reviews_at on anomaly.reviews using brin (at) with (pages_per_range = 16, autosummarize = on);

alter table anomaly.processing_log drop constraint processing_log_event_known, add constraint processing_log_event_known check (event in (
    'committed', 'deferred', 'quarantined', 'rescore_failed', 'throttled', 'released', 'expired', 'reopened', 'worker_died', 'requeued',
    'reviewed', 'review_undone'
)) not valid;

-- Writes a decision once, however often it is sent, and derives the flags of its record from what then counts: the newest decision that is
-- not taken back. The row of the flags is the lock, so each later statement sees what an earlier reviewer has left. No row: the record has
-- no verdict, or the decision to be taken back is not one of this record.
create function anomaly.add_review(
    in_id uuid, in_record bigint, in_token bigint, in_verdict text, in_label text, in_comment text, in_takes_back uuid, in_reviewer text
) returns table (review text, reviewed_by text, reviewed_at timestamptz, decisions bigint) language plpgsql as $$
declare counts anomaly.reviews; added anomaly.reviews;
begin
    perform from anomaly.ai_flags as f where f.record_id = in_record and f.ai_processed for update;
    if not found or in_takes_back is not null
       and not exists (select from anomaly.reviews as r where r.id = in_takes_back and r.record_id = in_record) then
        return;
    end if;
    insert into anomaly.reviews as r (id, record_id, token, verdict, label, comment, takes_back, reviewer)
    values (in_id, in_record, in_token, in_verdict, in_label, in_comment, in_takes_back, in_reviewer)
        on conflict (id) do nothing
 returning * into added;
    select r.* into counts
      from anomaly.reviews as r
     where r.record_id = in_record and r.verdict is not null
       and not exists (select from anomaly.reviews as b where b.takes_back = r.id)
     order by r.number desc
     limit 1;
    if added.id is not null then
        update anomaly.ai_flags as f
           set review = counts.verdict, reviewed_by = counts.reviewer, reviewed_at = counts.at, updated_at = now(),
               needs_review = counts.verdict is null and coalesce(f.is_anomaly, false)
         where f.record_id = in_record;
        insert into anomaly.processing_log (record_id, event, attempt, token, actor)
        values (in_record, case when in_verdict is null then 'review_undone' else 'reviewed' end, 0, in_token, in_reviewer);
    end if;
    return query select counts.verdict, counts.reviewer, counts.at, 
           (select count(*) from anomaly.reviews as r where r.record_id = in_record);
end $$;
