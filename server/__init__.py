"""What the services of docker-compose.yaml run besides Airflow: the step before it, its login, the demo's records."""
