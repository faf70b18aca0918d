-- Counts the configurations other than `configs` whose verdicts of the last 30 days have a detector's name.
select count(distinct config) as configs
  from anomaly.ai_results
 where detector = %(detector)s and config <> all(%(configs)s::text[]) and created_at > now() - interval '30 days'
