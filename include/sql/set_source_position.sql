-- Records until when the rows of a source have been looked at. Rows of the future may still come, and those before 1900 are no records.
update anomaly.sources
   set found_until = greatest(found_until, case when %(found_until)s::timestamptz >= '1900-01-01' then least(%(found_until)s, now()) end),
       updated_at = now()
 where source = %(source)s and config = %(source_config)s::jsonb
returning found_until
