-- Reads the rows of a source that follow a row, in the order of their capture. `fault` is why a row cannot be a record.
select {key} as key, {image_url}::text as image_url, {captured_at}::text as captured_at, {attributes}::text as attributes,
       case when {image_url} is null or btrim({image_url}::text) = '' then 'it has no address of an image'
            when {captured_at} < '1900-01-01' or {captured_at} > now() + interval '1 day' then 'its time of capture cannot be meant'
            when octet_length({key}) > 1000 then 'its key is longer than 1000 bytes'
       end as fault
  from {table} as source
 where {captured_at_column} >= {after}
   and {captured_at_column} <= {until}
   and (%(after_key)s::text is null or ({captured_at_column}, {id}) > ({after}, {after_id}))
   and {has_key}
   and {condition}
 order by {captured_at_column}, {id}
 limit %(size)s::integer
