-- Attempts beyond the one that ends a record, and claims that a detector's pause has ended.
select (select coalesce(sum(attempts - 1), 0)::integer from anomaly.records) as attempts_too_many,
       (select count(*) from anomaly.processing_log where event = 'throttled') as given_back
