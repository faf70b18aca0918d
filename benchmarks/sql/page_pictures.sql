-- Keys of the pictures at the beginning of the gallery and of the review queue.
select a.image_key, a.heatmap_key
  from anomaly.ai_results as a
 where (a.record_id, a.token) in (
        (select record_id, token from anomaly.ai_flags where ai_processed order by score desc, record_id desc limit %(size)s)
         union
        (select record_id, token from anomaly.ai_flags where needs_review order by score desc, record_id desc limit %(size)s))
