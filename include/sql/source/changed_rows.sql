-- Reads rows of a source again that seem to have changed: how many rows each key has, and the time of capture that is read now.
select wanted.key, count(*) as rows, min({captured_at})::text as captured_at
  from unnest(%(keys)s::text[]) as wanted (key)
  join {table} as source on {matches}
 where {condition}
 group by wanted.key
