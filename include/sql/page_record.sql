-- A record, its flags, and the columns of its row that are not the project's.
select r.id, captured_at as image_at, status, attempts, lost, not_before, r.token, last_error_code, last_error, processed_at,
       f.token as verdict_token, f.review, f.reviewed_by, f.reviewed_at, coalesce(f.needs_review, false) as needs_review,
       case when f.sampled then f.sample_share end as sample_share, r.ask_anew, r.source,
       coalesce(to_jsonb(r) -> 'attributes', to_jsonb(r) - array['status', 'attempts', 'lost', 'not_before', 'token', 'batch_id', 'chunk',
           'last_error_code', 'last_error', 'image_sha256', 'processed_at', 'updated_at']) as attributes, r.image_url
  from anomaly.records as r
  left join anomaly.ai_flags as f on f.record_id = r.id
 where r.id = %(record_id)s::bigint
