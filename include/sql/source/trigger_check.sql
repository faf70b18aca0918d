begin
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
    perform {added} limit 0;
end
