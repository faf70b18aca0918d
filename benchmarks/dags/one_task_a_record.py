"""The obvious way to use Airflow: one task lists the due records, and a mapped task processes each."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import dag, task


@dag(schedule=None)
def one_task_a_record() -> None:
    @task
    def due() -> list[list[Any]]:
        import psycopg

        from benchmarks.job import Job
        from benchmarks.statements import sql

        job = Job.from_json(os.environ["BENCHMARK_JOB"])
        with psycopg.connect(job.dsn) as connection:
            return [list(row) for row in connection.execute(sql("select_due")).fetchall()]

    @task
    def process(record: list[Any]) -> None:
        from benchmarks.contestants import pooled
        from benchmarks.job import Job

        pooled.work_on(Job.from_json(os.environ["BENCHMARK_JOB"]), [(record[0], record[1])])

    process.expand(record=due())


DAG = one_task_a_record()
