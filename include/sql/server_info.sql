-- The server's version, how many connections it accepts from logins without superuser privileges, and its clock.
select current_setting('server_version') as version,
       current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
           - coalesce(current_setting('reserved_connections', true)::integer, 0) as connections,
       clock_timestamp() as now
