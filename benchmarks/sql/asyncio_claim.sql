-- $1: how many
with due as (
    select id from anomaly.records where status = 'pending' order by captured_at, id limit $1 for update skip locked
)
update anomaly.records as r
   set status = 'claimed', token = token + 1, batch_id = '00000000-0000-0000-0000-000000000001', chunk = 0, updated_at = now()
  from due
 where r.id = due.id
returning r.id, r.image_url
