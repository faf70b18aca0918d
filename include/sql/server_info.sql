-- The server's version, how many connections it accepts from this login, and its clock. A limit of -1 is none.
select current_setting('server_version') as version,
       least(
           current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
               - coalesce(current_setting('reserved_connections', true)::integer, 0),
           (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user),
           (select nullif(datconnlimit, -1) from pg_database where datname = current_database())
       ) as connections,
       clock_timestamp() as now
