-- Returns the names of all detectors that have results.
select distinct detector from anomaly.ai_results order by detector
