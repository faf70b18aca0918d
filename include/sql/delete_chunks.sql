-- Reads one page of the chunks, by key, and deletes those of batches that ended more than `days` ago, unless it is a dry run.
with page as materialized (
    select c.batch_id, c.chunk
      from anomaly.chunks as c
     where (c.batch_id, c.chunk) > (%(after_batch)s::uuid, %(after_chunk)s::integer)
     order by c.batch_id, c.chunk
     limit %(size)s::integer
), old as materialized (
    select page.batch_id, page.chunk
      from page
      join anomaly.batches as b on b.batch_id = page.batch_id
     where b.began_at is null and b.updated_at < now() - %(days)s::integer * interval '1 day'
       and not exists (select from anomaly.chunks as c where c.batch_id = b.batch_id and c.ended_at is null)
       and not exists (select from anomaly.records as r where r.batch_id = b.batch_id and r.status = 'claimed')
), held as materialized (
    select c.batch_id, c.chunk
      from old
      join anomaly.chunks as c on c.batch_id = old.batch_id and c.chunk = old.chunk
     where not %(dry_run)s::boolean
     order by c.batch_id, c.chunk
       for update of c skip locked
), gone as (
    delete from anomaly.chunks as c
     using held
     where c.batch_id = held.batch_id and c.chunk = held.chunk
 returning c.chunk
), last as (
    select page.batch_id, page.chunk from page order by page.batch_id desc, page.chunk desc limit 1
)
select (select last.batch_id from last) as after_batch, (select last.chunk from last) as after_chunk,
       (select count(*) from old) as found,
       (select count(*) from gone) as deleted
