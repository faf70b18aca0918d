-- Registers a source, and returns until when its rows have been looked at. A source that is read in another way is looked at again.
insert into anomaly.sources as s (source, config)
values (%(source)s, %(source_config)s::jsonb)
    on conflict (source) do update
   set config = excluded.config, found_until = case when s.config = excluded.config then s.found_until end, updated_at = now()
returning found_until
