-- The rate of a mapped task, in records a second, in the last run with at least 20 records.
select sum(w.records)::double precision / nullif(sum(w.seconds), 0) as records_per_s
  from (select sum(t.records) as records, extract(epoch from max(c.ended_at) - min(c.opened_at))::double precision as seconds
          from anomaly.chunks as c
         cross join lateral (select sum(e.value::integer) as records from jsonb_each_text(c.tally -> 'ended') as e) as t
         where c.batch_id = (select b.batch_id
                               from anomaly.batches as b
                              where b.began_at is null and b.claimed >= 20
                              order by b.created_at desc
                              limit 1)
           and c.opened_at is not null and c.ended_at is not null
         group by c.map_index) as w
