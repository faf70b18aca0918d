-- Writes a decision of a person once and derives the flags: see the function in migrations/0023_review_sample.sql.
select review, reviewed_by, reviewed_at, decisions
  from anomaly.add_review(
       %(id)s::uuid, %(record_id)s::bigint, %(token)s::bigint, %(verdict_text)s::text, %(label)s::text, %(comment)s::text,
       %(takes_back)s::uuid, %(reviewer)s::text)
