"""Rows with a real Airflow: scheduler, API and task processes, on their own metadata database."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psutil

from embedded import airflow, job
from embedded.postgres import Postgres
from embedded.process import ROOT, ChildProcess, wait_until_ready
from tests.chaos.rows import FIRST, RECORDS, Row
from tests.chaos.workers import until
from tests.chaos.world import SLOTS
from tests.parts.gates import CallGate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.world import World

START_S = 300.0
RUN_S = 300.0
SETTINGS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
    # By default a scheduler looks for tasks of a dead one when it starts, and then every five minutes.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "ANOMALY_SCHEDULE": "0 0 1 1 *",
    "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("", "plugins", "config")),
}


class Scheduled:
    """An Airflow that works on the records of a world; *more* extends its environment."""

    def __init__(self, world: World, database: str, more: dict[str, str] | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        folder = world.folder / "airflow"
        self._env = airflow.settings(folder, database=database, port=port) | world.env() | SETTINGS | (more or {})
        self._airflow = airflow.Airflow(folder, env=self._env)
        self._second = ChildProcess("scheduler-2", folder, stop_s=15, stop_all=True)

    @property
    def env(self) -> dict[str, str]:
        """Environment of every process of this Airflow."""
        return os.environ | self._env

    def start(self) -> None:
        since = datetime.now(UTC)
        self._airflow.start_migration()
        until(self._airflow.migration_finished, within_s=START_S, what="Airflow's tables")
        self._airflow.start()
        wait_until_ready(self._airflow, within_s=START_S)
        job.wait_for_dag(self._airflow, since)

    def stop(self) -> None:
        self._second.stop()
        self._airflow.stop()

    def trigger(self, *, tasks: int = 1) -> str:
        self._airflow.call("PATCH", f"dags/{job.DAG_ID}", {"is_paused": False})
        conf = {"batch_size": tasks * (FIRST + SLOTS), "chunk_size": FIRST + SLOTS}
        _, run = self._airflow.call("POST", f"dags/{job.DAG_ID}/dagRuns", {"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def mark_failed(self, run_id: str) -> None:
        self._airflow.call("PATCH", f"dags/{job.DAG_ID}/dagRuns/{run_id}", {"state": "failed"})

    def state(self, run_id: str) -> str:
        _, run = self._airflow.call("GET", f"dags/{job.DAG_ID}/dagRuns/{run_id}")
        return str(run["state"])

    def tries(self, run_id: str) -> list[int]:
        """Return the number of tries of each mapped task, sorted."""
        _, found = self._airflow.call("GET", f"dags/{job.DAG_ID}/dagRuns/{run_id}/taskInstances?task_id=process")
        return sorted(task["try_number"] for task in found["task_instances"])

    def await_end(self, run_id: str) -> str:
        until(lambda: self.state(run_id) in {"success", "failed"}, within_s=RUN_S, what="the end of the run", every_s=0.5)
        return self.state(run_id)

    def kill_scheduler(self) -> None:
        """Kill the scheduler, its executor and their tasks, as when their machine fails."""
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.environ().get("AIRFLOW_HOME") == self._env["AIRFLOW_HOME"] and "scheduler" in process.cmdline():
                    for each in (process, *process.children(recursive=True)):
                        each.kill()

    def start_scheduler(self) -> None:
        words = [sys.executable, "-m", "airflow", *airflow.COMPONENTS["scheduler"][0]]
        self._second.start(words, cwd=ROOT, env=self.env)


@contextlib.contextmanager
def at_work(world: World) -> Iterator[tuple[Scheduled, str]]:
    """Start Airflow and a run whose requests to the detector block after the first answers."""
    world.settings = {"TASK_BACKOFF_S": 5, "DETECTOR_READ_TIMEOUT_S": 120}
    world.add(RECORDS)
    world.detecting = CallGate(FIRST)
    with Postgres(world.folder / "metadata") as server:
        server.ensure_database("airflow")
        scheduled = Scheduled(world, server.dsn("airflow", "postgresql+psycopg2"))
        try:
            scheduled.start()
            run_id = scheduled.trigger()
            until(lambda: world.detecting.blocked == SLOTS and world.committed == FIRST, within_s=RUN_S, what="the run is at work")
            yield scheduled, run_id
        finally:
            world.detecting.open()
            scheduled.stop()


def marked_failed(world: World) -> float:
    with at_work(world) as (scheduled, run_id):
        began = time.monotonic()
        scheduled.mark_failed(run_id)
        assert scheduled.await_end(run_id) == "failed"
        assert world.count("records", "status = 'claimed'") == 0
        world.detecting.open()
        assert scheduled.await_end(scheduled.trigger()) == "success"
        return began


def scheduler_dies(world: World) -> float:
    with at_work(world) as (scheduled, run_id):
        began = time.monotonic()
        scheduled.kill_scheduler()
        world.detecting.open()
        scheduled.start_scheduler()
        assert scheduled.await_end(run_id) == "success"
        return began


def airflow_rows() -> list[Row]:
    return [
        Row("DAG run marked failed, next run", marked_failed, asked_twice_max=SLOTS),
        Row("scheduler and its tasks killed, and restarted", scheduler_dies, asked_twice_max=SLOTS),
    ]
