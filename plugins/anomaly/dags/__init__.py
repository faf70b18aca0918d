"""The DAGs. In Airflow's DAGs folder, a file for each of them imports it: `from anomaly.dags import anomaly_detection`."""

from __future__ import annotations

import importlib
from typing import Any

MODULES = {"anomaly_detection": "anomaly.dags.detection", "anomaly_maintenance": "anomaly.dags.maintenance"}
"""The module of each DAG, by id."""


def __getattr__(name: str) -> Any:
    """Return a DAG by its id. It is built now and not earlier, because Airflow adds a DAG to the file during whose import it is built."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(MODULES[name]).DAG
