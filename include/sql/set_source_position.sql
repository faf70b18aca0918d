-- Records until when the rows of a source have been looked at. Rows of the future may still come.
update anomaly.sources
   set found_until = greatest(found_until, least(%(found_until)s::timestamptz, now())), updated_at = now()
 where source = %(source)s and config = %(source_config)s::jsonb
returning found_until
