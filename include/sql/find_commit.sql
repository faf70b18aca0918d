-- Returns a row if this claim of the record was committed. Runs after commit_verdict changed no row, as a statement of its own, so that it
-- sees what was committed meanwhile.
select token
  from anomaly.ai_results
 where record_id = %(record_id)s and token = %(token)s
