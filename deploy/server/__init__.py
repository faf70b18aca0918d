"""Commands of docker-compose.yaml that run before Airflow: preparation of the databases, and the login of the user `admin`."""
