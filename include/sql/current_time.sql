-- The database's clock, by which everything here is timed.
select clock_timestamp() as now
