-- Adds the rows of a page that are not known yet, and takes over changed addresses and times of capture, if they are to be applied. A changed
-- record becomes pending: its token grows, so that a verdict on the image before is not committed.
with page as (
    select key, image_url, captured_at, attributes, number
      from unnest(%(keys)s::text[], %(image_urls)s::text[], %(captured_ats)s::timestamptz[], %(attributes)s::text[])
               with ordinality as page (key, image_url, captured_at, attributes, number)
), compared as materialized (
    -- The known rows of a page are side by side in the index by time. Only a row that is new, or whose time has changed, is looked up by its
    -- key, which may be anywhere in a large index. `limit` ends the lookup with the first, and keeps a join from reading a whole index.
    select page.*, known.id, (known.image_url, known.captured_at) is distinct from (page.image_url, page.captured_at) as differs
      from page
      left join lateral (
           select r.id, r.image_url, r.captured_at
             from anomaly.records as r
            where r.source = %(source)s::text and r.captured_at = page.captured_at and r.source_key collate "C" = page.key
            union all
           select r.id, r.image_url, r.captured_at
             from anomaly.records as r
            where r.source = %(source)s::text and r.source_key = page.key
            limit 1) as known on true
), added as (
    insert into anomaly.records (source, source_key, image_url, captured_at, attributes)
    select %(source)s::text, key, image_url, captured_at, attributes::jsonb
      from compared
     where id is null
     order by number
     limit %(size)s::integer
        on conflict (source, source_key) where source is not null do nothing
 returning id
), changed as materialized (
    -- A record with a verdict keeps it, unless changes are to be scored again.
    select r.id, c.image_url, c.captured_at, c.attributes
      from compared as c
      join anomaly.records as r on r.id = c.id
     where c.differs and %(apply_changes)s::boolean
       and (r.image_url, r.captured_at) is distinct from (c.image_url, c.captured_at)
       and (%(again)s::boolean or r.status in ('pending', 'quarantined'))
     order by r.id
       for update of r
), requeued as (
    update anomaly.records as r
       set image_url = changed.image_url, captured_at = changed.captured_at, attributes = changed.attributes::jsonb,
           status = 'pending', token = r.token + 1, attempts = 0, lost = 0, not_before = null, image_sha256 = null, updated_at = now()
      from changed
     where r.id = changed.id and r.id = any(array(select id from changed))
 returning r.id, r.attempts, r.token
), logged as (
    insert into anomaly.processing_log (record_id, event, attempt, token, actor)
    select id, 'requeued', attempts, token, 'source ' || %(source)s::text from requeued
)
select (select count(*) from added) as added, (select count(*) from requeued) as changed,
       array(select key from compared where differs and id is not null) as differing
