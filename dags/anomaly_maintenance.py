"""The DAG anomaly_maintenance for Airflow. The package defines it."""

from anomaly.dags import anomaly_maintenance
