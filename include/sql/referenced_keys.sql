-- Returns the keys of the bucket that results refer to, one page of images in the order of their SHA-256. Results written after the caller
-- began are left out, since the bucket may have been listed before. With `days`, so are results older than that.
with images as materialized (
    select distinct a.image_sha256
      from anomaly.ai_results as a
     where a.image_sha256 > %(after_sha256)s
     order by a.image_sha256
     limit %(size)s::integer
)
select images.image_sha256, a.config, a.image_key, a.answer_key, a.heatmap_key, min(a.record_id) as record_id
  from images
  left join anomaly.ai_results as a
         on a.image_sha256 = images.image_sha256 and a.created_at < %(before)s
        and a.created_at >= coalesce(now() - %(days)s::integer * interval '1 day', '-infinity')
 group by images.image_sha256, a.config, a.image_key, a.answer_key, a.heatmap_key
 order by images.image_sha256
