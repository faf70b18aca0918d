-- Pauses the DAG in Airflow's own tables, while none of its components runs, so that no run starts before it is parsed again.
update dag set is_paused = true where dag_id = 'anomaly_detection'
