-- Expires the leases of these batches, whose workers have ended, so that the next claim does not wait for them.
update anomaly.chunks
   set leased_until = clock_timestamp()
 where batch_id = any(%(batches)s)
   and ended_at is null
   and leased_until > clock_timestamp()
