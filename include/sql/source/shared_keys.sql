-- Returns those of some keys that more than one row of a source has.
select wanted.key
  from unnest(%(keys)s::text[]) as wanted (key)
  join {table} as source on {matches}
 where {condition}
 group by wanted.key
having count(*) > 1
