-- The views of a person by name.
select id as view_id, name, query
  from anomaly.saved_views
 where owner = %(owner)s
 order by lower(name), name
