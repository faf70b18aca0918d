-- depends: 0024_regions_in_one_unit
-- A record that somebody has asked to be scored again has the id of that request until its next verdict: no answer of before is reused for
-- it. The column is added without rewriting the table.
alter table anomaly.records add column ask_anew uuid;
