begin
    perform pg_advisory_xact_lock(hashtextextended({source}, 7701));
    create or replace function {function}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as {body};
    create or replace trigger {trigger}
        after insert or update of {image_url}, {captured_at} on {table}
        for each row execute function {function}();
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
    perform {added} limit 0;
end
