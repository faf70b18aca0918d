-- Returns the names of all detectors that have results: from the sums, and from the results that are not in them yet.
select h.detector from anomaly.verdict_hours as h
 union
select a.detector from anomaly.ai_results as a where a.created_at >= (select summed_until from anomaly.verdict_sums)
 order by detector
