-- Ends a detector's pause, and makes the records due that were given back because of one. One request tries the detector first.
with resumed as (
    update anomaly.detectors
       set held_until = 'epoch', probe_at = case when probe_at is not null then clock_timestamp() end
     where detector = %(detector)s and held_until > clock_timestamp()
 returning detector
), chosen as materialized (
    select id
      from anomaly.records
     where status = 'pending' and last_error_code = 'detector_throttled' and not_before > clock_timestamp()
       and exists (select from resumed)
     order by id
       for update skip locked
), due as (
    update anomaly.records as r
       set not_before = null, updated_at = now()
      from chosen
     where r.id = chosen.id and r.id = any(array(select id from chosen))
 returning r.id
)
select (select count(*) from resumed) as detectors, (select count(*) from due) as records
