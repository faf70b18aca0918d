"""Runs that the last start was cut off from: they are ended, and what they held comes free."""

from __future__ import annotations

import psycopg

from anomaly.models.runs import batch_id_of
from embedded.demo import statement


def end_runs(*, airflow_dsn: str, records_dsn: str) -> None:
    """End them in Airflow's database, and let the next claim free what they left claimed in the records database.

    Only right while no component of this Airflow runs. Who else works the records database is left alone.
    """
    with psycopg.connect(airflow_dsn) as connection:
        runs = connection.execute(statement("end_cut_off_runs")).fetchall()
    if runs:
        batches = [batch_id_of(dag_id, run_id) for dag_id, run_id in runs]
        with psycopg.connect(records_dsn) as connection:
            connection.execute(statement("expire_leases"), {"batches": batches})
