"""Ends DAG runs that the last `bin/run` left running, and expires their leases."""

from __future__ import annotations

import psycopg

from anomaly.models.runs import batch_id_of
from embedded.queries import statement


def end_stale_runs(*, airflow_dsn: str, records_dsn: str) -> None:
    """Mark these runs as failed in Airflow's database, and expire their leases so that the next claim takes their records.

    Call it only while no component of this Airflow runs. Runs of other installations on the same records database are not touched.
    """
    with psycopg.connect(airflow_dsn) as connection:
        runs = connection.execute(statement("end_stale_runs")).fetchall()
    if runs:
        batches = [batch_id_of(dag_id, run_id) for dag_id, run_id in runs]
        with psycopg.connect(records_dsn) as connection:
            connection.execute(statement("expire_leases"), {"batches": batches})
