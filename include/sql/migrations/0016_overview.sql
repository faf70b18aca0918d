-- depends: 0011_compare_known_detectors
-- Indexes for `anomaly status` and `anomaly errors`. A record is in the last one only while it has failed, so that no other pays for it.
create index batches_open on anomaly.batches (created_at) where began_at is not null;

do $$
begin
    if to_regclass('anomaly.records') is not null then  -- with a table of your own, it may have been dropped
        create index records_failed on anomaly.records (last_error_code, id)
         where last_error_code is not null and status in ('pending', 'quarantined');
    end if;
end
$$;
