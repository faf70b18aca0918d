-- depends: 0013_sources
-- Adds a row of a source as a record, or takes over its changes, in the transaction that writes the row: called by the triggers of
-- `anomaly attach --trigger`. What it does with a changed row is that of add_source_rows.sql.
create function anomaly.add_source_row(
    in_source text, in_key text, in_image_url text, in_captured_at timestamptz, in_attributes jsonb, again boolean
) returns void language plpgsql as $$
begin
    insert into anomaly.records (source, source_key, image_url, captured_at, attributes)
    values (in_source, in_key, in_image_url, in_captured_at, in_attributes)
        on conflict (source, source_key) where source is not null do nothing;
    if found then
        return;
    end if;
    with requeued as (
        update anomaly.records as r
           set image_url = in_image_url, captured_at = in_captured_at, attributes = in_attributes, status = 'pending', token = r.token + 1,
               attempts = 0, lost = 0, not_before = null, image_sha256 = null, updated_at = now()
         where r.source = in_source and r.source_key = in_key
           and (r.image_url, r.captured_at) is distinct from (in_image_url, in_captured_at)
           and (again or r.status in ('pending', 'quarantined'))
     returning r.id, r.attempts, r.token
    )
    insert into anomaly.processing_log (record_id, event, attempt, token, actor)
    select id, 'requeued', attempts, token, 'source ' || in_source from requeued;
end $$;
