"""The plugin as Airflow registers it: from `plugins/anomaly_plugin.py` in a checkout, by its entry point in an installed wheel."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class AnomalyPlugin(AirflowPlugin):
    """The project's extensions of Airflow."""

    name = "anomaly"
