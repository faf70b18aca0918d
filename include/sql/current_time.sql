-- The database's clock, which decides about leases.
select clock_timestamp() as now
