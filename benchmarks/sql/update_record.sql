update anomaly.records
   set status = 'done', attempts = attempts + 1, image_sha256 = %(image_sha256)s, processed_at = now(), updated_at = now()
 where id = %(id)s
