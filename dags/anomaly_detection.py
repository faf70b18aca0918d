"""The DAG anomaly_detection for Airflow. The package defines it."""

from anomaly.dags import anomaly_detection
