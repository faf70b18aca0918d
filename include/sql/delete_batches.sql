-- Reads one page of the batches, by key, and deletes those that ended more than `days` ago and have no chunk or log entry left. A dry run
-- deletes nothing, and counts as if chunks and log entries were gone. A batch that is reopened meanwhile stays: locking checks it again.
with page as materialized (
    select b.batch_id
      from anomaly.batches as b
     where b.batch_id > %(after_batch)s::uuid
     order by b.batch_id
     limit %(size)s::integer
), old as materialized (
    select b.batch_id
      from page
      join anomaly.batches as b on b.batch_id = page.batch_id
     where b.began_at is null and b.updated_at < now() - %(days)s::integer * interval '1 day'
       and not exists (select from anomaly.chunks as c where c.batch_id = b.batch_id and (c.ended_at is null or not %(dry_run)s::boolean))
       and not exists (select from anomaly.records as r where r.batch_id = b.batch_id and r.status = 'claimed')
       and (%(dry_run)s::boolean or not exists (select from anomaly.processing_log as l where l.batch_id = b.batch_id))
), held as materialized (
    select b.batch_id
      from anomaly.batches as b
     where b.batch_id = any(array(select old.batch_id from old)) and not %(dry_run)s::boolean
       and b.began_at is null and b.updated_at < now() - %(days)s::integer * interval '1 day'
     order by b.batch_id
       for update skip locked
), gone as (
    delete from anomaly.batches as b
     using held
     where b.batch_id = held.batch_id
 returning b.batch_id
)
select (select page.batch_id from page order by page.batch_id desc limit 1) as after_batch,
       (select count(*) from old) as found,
       (select count(*) from gone) as deleted
