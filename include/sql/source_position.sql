-- Returns until when the rows of a source have been looked at. No row: it is not registered as it is configured now.
select found_until
  from anomaly.sources
 where source = %(source)s and config = %(source_config)s::jsonb
