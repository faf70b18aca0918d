-- Reads the flags of these records anew by the threshold that is stored for their detector. Decisions of people stay. The rows are locked in
-- the order of their ids, and a row that has changed meanwhile is looked at again, so two at once change each row once.
with chosen as materialized (
    select f.record_id, f.is_anomaly, stored.threshold, stored.set_by
      from anomaly.ai_flags as f
     cross join lateral (
        select t.detector, t.threshold, t.set_by from anomaly.thresholds as t
         where t.detector = f.detector
         order by t.number desc
         limit 1) as stored
     where f.record_id = any(%(record_ids)s::bigint[]) and f.ai_processed
       and f.detector = stored.detector and f.threshold is distinct from stored.threshold
     order by f.record_id
       for update of f
), moved as (
    update anomaly.ai_flags as f
       set threshold = chosen.threshold, is_anomaly = f.score >= chosen.threshold,
           needs_review = f.review is null and (f.score >= chosen.threshold or f.sampled),
           updated_at = case when chosen.is_anomaly is distinct from (f.score >= chosen.threshold) then now() else f.updated_at end
      from chosen
     where f.record_id = chosen.record_id and f.record_id = any(array(select record_id from chosen))
 returning f.record_id, f.token, f.is_anomaly, chosen.is_anomaly as was_anomaly, chosen.set_by
), held as (
    -- The records with another verdict, whose log and whose row in a source follow.
    select record_id as id, token, is_anomaly, set_by from moved where is_anomaly is distinct from was_anomaly
), logged as (
    insert into anomaly.processing_log (record_id, event, attempt, token, actor)
    select id, 'threshold_changed', 0, token, set_by from held order by id
)
select (select count(*) from moved) as followed, (select count(*) from held) as changed
