-- Gives a view another name, by a new row, since an update would fail where that name exists. No row: there is no such view of this
-- person, or another one has the name. Two that rename one view wait for each other, and the second finds it gone.
with held as (
    select id, owner, query from anomaly.saved_views where id = %(view_id)s::bigint and owner = %(owner)s for update
), renamed as (
    insert into anomaly.saved_views (owner, name, query)
    select owner, %(name)s, query from held
        on conflict on constraint saved_views_name_unique do nothing
 returning id
), gone as (
    delete from anomaly.saved_views as v using held as h where v.id = h.id and exists (select from renamed)
)
select id from renamed
