-- Opens the run's batch, or reopens it. `began_at` fences every later claim of the batch: the report sets it to null.
insert into anomaly.batches as b (batch_id, began_at, dag_id, run_id)
values (%(batch_id)s, clock_timestamp(), %(dag_id)s, %(run_id)s)
    on conflict (batch_id) do update
   set began_at = coalesce(b.began_at, excluded.began_at),
       claimed = case when b.began_at is null then 0 else b.claimed end,
       updated_at = now()
returning began_at
