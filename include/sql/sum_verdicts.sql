-- Adds the results of an hour to the sums, and returns whether there are more. See migrations/0027_sum_verdicts.sql.
select anomaly.sum_verdicts() as more
