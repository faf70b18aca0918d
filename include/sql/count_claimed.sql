-- Counts the records that are in work.
select count(*) as claimed from anomaly.records where status = 'claimed'
