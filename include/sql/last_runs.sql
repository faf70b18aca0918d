-- Returns the newest runs with their outcomes by event, as their chunks counted them, and their rate in records a second.
select b.dag_id, b.run_id, b.created_at, case when b.began_at is null then b.updated_at end as ended_at, b.claimed, t.outcomes,
       t.records::double precision / nullif(s.seconds, 0) as records_per_s
  from (select batch_id, dag_id, run_id, created_at, updated_at, began_at, claimed
          from anomaly.batches
         order by created_at desc
         limit %(size)s::integer) as b
 cross join lateral (
        select coalesce(jsonb_object_agg(e.event, e.records), '{}') as outcomes, sum(e.records) as records
          from (select each.key as event, sum(each.value::integer) as records
                  from anomaly.chunks as c
                 cross join lateral jsonb_each_text(c.tally -> 'ended') as each
                 where c.batch_id = b.batch_id
                 group by each.key) as e) as t
 cross join lateral (
        select extract(epoch from max(ended_at) - min(opened_at))::double precision as seconds
          from anomaly.chunks
         where batch_id = b.batch_id and tally is not null) as s
 order by b.created_at desc
