-- depends: 0019_reviews
-- Finds the known rows of a page of a source, which is read in the order of capture: they lie side by side here, while the unique index of
-- keys has them spread over all its pages. The collation lets no other index serve the lookup. While the index is built, nothing is
-- written to anomaly.records; with 10 million records of sources this takes about a minute, and without any a few seconds.
create index records_source_time on anomaly.records (source, captured_at, source_key collate "C") where source is not null;
