-- Reads one page of the log, by id, and deletes its old entries, unless it is a dry run. Entries of claimed records and of open batches
-- stay: find_outcome reads them after an answer was lost, and the report counts them.
with page as materialized (
    select l.id, l.record_id, l.batch_id, l.at < now() - %(days)s::integer * interval '1 day' as is_old
      from anomaly.processing_log as l
     where l.id > %(after_id)s::bigint
     order by l.id
     limit %(size)s::integer
), old as materialized (
    select page.id
      from page
     where page.is_old
       and not exists (select from anomaly.records as r where r.id = page.record_id and r.status || '' = 'claimed')  -- by the key: see commit_verdict.sql
       and not exists (select from anomaly.batches as b where b.batch_id = page.batch_id and b.began_at is not null)
       and not exists (select from anomaly.chunks as c where c.batch_id = page.batch_id and c.ended_at is null)
), held as materialized (
    select l.id
      from anomaly.processing_log as l
     where l.id = any(array(select old.id from old)) and not %(dry_run)s::boolean
     order by l.id
       for update skip locked
), gone as (
    delete from anomaly.processing_log as l
     using held
     where l.id = held.id
 returning l.id
)
select (select case when bool_or(page.is_old) then max(page.id) end from page) as after_id,  -- null: only younger entries follow
       (select count(*) from old) as found,
       (select count(*) from gone) as deleted
