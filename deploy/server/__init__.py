"""Commands of the services in docker-compose.yaml beside Airflow: the preparation before it, its login, the records of the demo."""
