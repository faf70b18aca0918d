-- Counts the rows of a source without a time of capture, and names a few.
select count(*) as rows, (array_agg({key}))[1:5] as keys
  from {table} as source
 where {captured_at_column} is null
   and {condition}
