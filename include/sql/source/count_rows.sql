-- Counts the rows of a source, up to a million.
select count(*) as rows
  from (select from {table} as source
         where {condition}
         limit 1000000) as counted
