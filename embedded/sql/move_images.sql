-- The image host listens on another port than at the last start: what waits for a verdict must find its image there.
update anomaly.records
   set image_url = %(base_url)s || '/' || (attributes ->> 'demo'), updated_at = now()
 where attributes ? 'demo'
   and status in ('pending', 'claimed')
   and image_url <> %(base_url)s || '/' || (attributes ->> 'demo')
