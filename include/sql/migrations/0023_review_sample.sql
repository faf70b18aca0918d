-- depends: 0019_reviews
-- The random sample of verdicts that people review whatever the verdict, so that misses can be counted. Each record is drawn once, at its
-- first commit, with the probability `sample_share`; records of before have none. The columns are added without rewriting the table. The
-- indexes are empty at first, but each reads the table once, which is locked meanwhile: about a second for a million records.
alter table anomaly.ai_flags
    add column sampled      boolean not null default false,
    add column sample_share double precision,
    add constraint ai_flags_sampled_with_share check (not sampled or coalesce(sample_share, 0) > 0) not valid;

create index ai_flags_sampled on anomaly.ai_flags (score, record_id) where sampled;
create index ai_flags_sample_to_review on anomaly.ai_flags (image_at, record_id) where needs_review and not is_anomaly;

-- The function of 0019_reviews.sql. Also, a record of the sample needs a review again when its last decision is taken back.
create or replace function anomaly.add_review(
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
               needs_review = counts.verdict is null and (coalesce(f.is_anomaly, false) or f.sampled)
         where f.record_id = in_record;
        insert into anomaly.processing_log (record_id, event, attempt, token, actor)
        values (in_record, case when in_verdict is null then 'review_undone' else 'reviewed' end, 0, in_token, in_reviewer);
    end if;
    return query select counts.verdict, counts.reviewer, counts.at,
           (select count(*) from anomaly.reviews as r where r.record_id = in_record);
end $$;
