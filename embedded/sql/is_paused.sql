-- Returns whether the DAG is paused, from Airflow's own tables. No row: Airflow has never parsed it.
select is_paused from dag where dag_id = 'anomaly_detection'
