-- Which keys of the bucket the results of some images name: the next images after a SHA-256, in its order. Results of after the time at
-- which the caller began are left out, for the bucket may have been looked at before they came, and so are those older than the days.
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
