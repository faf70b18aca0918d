-- Adds the rows of a batch whose key is not known yet, and returns how many there were. In the order of their keys, so that two batches with
-- the same keys wait for each other instead of ending in a deadlock.
with added as (
    insert into anomaly.records (source, source_key, image_url, captured_at, attributes)
    select %(source)s::text, key, image_url, captured_at, attributes::jsonb
      from unnest(%(keys)s::text[], %(image_urls)s::text[], %(captured_ats)s::timestamptz[], %(attributes)s::text[])
               as batch (key, image_url, captured_at, attributes)
     order by key
        on conflict (source, source_key) where source is not null do nothing
 returning id
)
select count(*) as added from added
