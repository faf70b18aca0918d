-- Only after commit_verdict changed no row, and as a statement of its own: it sees what was committed meanwhile.
select token
  from anomaly.ai_results
 where record_id = %(record_id)s and token = %(token)s
