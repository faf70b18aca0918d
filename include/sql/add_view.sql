-- Saves a filter under a name, unless its owner has that name, or as many views as are allowed. No row: it was not saved.
insert into anomaly.saved_views (owner, name, query)
select %(owner)s, %(name)s, %(address)s
 where (select count(*) from anomaly.saved_views where owner = %(owner)s) < %(size)s::integer
    on conflict on constraint saved_views_name_unique do nothing
returning id
