-- The workers of these batches are gone with the last start: the next claim may free what they held, without waiting for the leases.
update anomaly.chunks
   set leased_until = clock_timestamp()
 where batch_id = any(%(batches)s)
   and ended_at is null
   and leased_until > clock_timestamp()
