-- Deletes a view of a person.
delete from anomaly.saved_views where id = %(view_id)s::bigint and owner = %(owner)s returning id
