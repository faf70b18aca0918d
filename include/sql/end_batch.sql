-- Closes the batch: later claims for it find nothing.
update anomaly.batches
   set began_at = null, updated_at = now()
 where batch_id = %(batch_id)s
returning batch_id
