-- Returns those keys of a source that are records already.
select source_key as key
  from anomaly.records
 where source = %(source)s and source_key = any(%(keys)s::text[])
