-- Returns the newest batches that are not over, with their leases and the records that they hold.
select b.dag_id, b.run_id, b.created_at, b.claimed, c.waiting, c.working, c.expired, c.leased_until, h.held
  from (select batch_id, dag_id, run_id, created_at, claimed
          from anomaly.batches
         where began_at is not null
         order by created_at desc
         limit %(size)s::integer) as b
 cross join lateral (
        select count(*) filter (where opened_at is null) as waiting, count(*) filter (where opened_at is not null) as working,
               count(*) filter (where leased_until < clock_timestamp()) as expired, min(leased_until) as leased_until
          from anomaly.chunks
         where batch_id = b.batch_id and ended_at is null) as c
 cross join lateral (select count(*) as held from anomaly.records where batch_id = b.batch_id and status = 'claimed') as h
 order by b.created_at desc
