-- Names a few of the rows of a source that page.sql leaves out, since they have no place in its order. `rows` is how many there are.
select coalesce({key}, 'the address ' || {image_url}::text, 'a row') as key,
       case when {captured_at_column} is null then 'it has no time of capture'
            else 'a column of its key is null, or a time that is not in the years 1 to 9999'
       end as fault,
       count(*) over () as rows
  from {table} as source
 where ({captured_at_column} is null or not ({has_key}))
   and {condition}
 limit %(size)s::integer
