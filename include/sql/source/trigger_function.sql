-- Adds rows as records in the transaction that writes them. Rows that cannot be records are left out, as by page.sql.
create or replace function {function}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as {body}
