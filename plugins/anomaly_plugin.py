"""What the project adds to Airflow itself: registration only."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class AnomalyPlugin(AirflowPlugin):
    """Tells Airflow about the project."""

    name = "anomaly"
