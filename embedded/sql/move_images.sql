-- Points demo records without a verdict to the image host's current port, which may have changed since the last start.
update anomaly.records
   set image_url = %(base_url)s || '/' || (attributes ->> 'demo'), updated_at = now()
 where attributes ? 'demo'
   and status in ('pending', 'claimed')
   and image_url <> %(base_url)s || '/' || (attributes ->> 'demo')
