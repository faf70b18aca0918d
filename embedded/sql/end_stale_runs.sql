-- Runs in Airflow's own tables, while none of its components runs. Marks what was still running as failed: it cannot end by itself,
-- and a scheduler would first wait for the heartbeats of dead tasks. The next run claims the records of these runs.
with ended as (
    update dag_run
       set state = 'failed', end_date = now()
     where dag_id = 'anomaly_detection' and state = 'running'
 returning dag_id, run_id
), tasks as (
    update task_instance as t
       set state = 'failed', end_date = now()
      from ended
     where t.dag_id = ended.dag_id
       and t.run_id = ended.run_id
       and t.state not in ('success', 'failed', 'skipped', 'upstream_failed', 'removed')
)
select dag_id, run_id from ended
