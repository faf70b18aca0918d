-- depends: 0009_detector_starts
-- A capture time is a point in time. Rows that have 'infinity' or '-infinity' already stay, are never due, and keep the constraint
-- from being validated: `select id from anomaly.records where not isfinite(captured_at)` finds them. Correct them, and then
-- `alter table anomaly.records validate constraint records_captured_at_finite`. With a table of your own, this one may have been dropped.
alter table if exists anomaly.records add constraint records_captured_at_finite check (isfinite(captured_at)) not valid;

do $$
begin
    alter table if exists anomaly.records validate constraint records_captured_at_finite;
exception when check_violation then
    raise warning 'anomaly.records has rows whose captured_at is infinite';
end
$$;
