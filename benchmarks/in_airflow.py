"""Contestants in Airflow, with scheduler, DAG processor and API server, measured from the trigger to the end of the run."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import psutil

from benchmarks.bench import JobFailed
from benchmarks.connections import CHUNK_SIZE, variables
from benchmarks.job import Effort
from embedded import airflow, state
from embedded.process import wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.bench import Bench
    from benchmarks.checkout import Checkout
    from benchmarks.job import Job

DATABASE = "airflow"
READY_S = 300
POLL_S = 1.0
SAMPLE_S = 1.0
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Dag:
    dag_id: str
    folder: Path
    conf: dict[str, Any]
    dry_run: dict[str, Any] | None = None
    """Configuration of a first run that changes nothing, after which Airflow's workers are warm."""


def ours_in_airflow(on: Bench, job: Job, checkout: Checkout) -> Effort:
    """Run the checkout's DAG. The detector's slots are split among the job's mapped tasks."""
    conf = {"batch_size": CHUNK_SIZE * job.tasks, "chunk_size": CHUNK_SIZE}
    dag = Dag(dag_id="anomaly_detection", folder=checkout.root / "dags", conf=conf, dry_run={"dry_run": True})
    return _run(on, job, dag, variables(job), checkout)


def one_task_a_record(on: Bench, job: Job, checkout: Checkout) -> Effort:
    """Run a DAG with one mapped task for each record."""
    dag = Dag(dag_id="one_task_a_record", folder=checkout.root / "benchmarks" / "dags", conf={})
    return _run(on, job, dag, {"BENCHMARK_JOB": job.to_json()}, checkout)


def _run(on: Bench, job: Job, dag: Dag, given: dict[str, str], checkout: Checkout) -> Effort:
    with _started(on, job, dag, given, checkout) as running:
        if dag.dry_run:
            _ended(running, dag.dag_id, dag.dry_run)
        with _ResourceMonitor() as watch:
            triggered = datetime.now(UTC)
            run = _ended(running, dag.dag_id, dag.conf)
            watch.close()
        if run["state"] != "success":
            raise JobFailed(f"{job.contestant}: the run failed; its logs are in {running.folder}")
        wall_s = (datetime.fromisoformat(run["end_date"]) - triggered).total_seconds()
        _, found = running.call("GET", f"dags/{dag.dag_id}/dagRuns/{run['dag_run_id']}/taskInstances?limit=10")
        return Effort(
            wall_s=wall_s,
            processor_s=watch.processor_s,
            rss_mb=watch.largest_mb,
            more={"all_processes_mb": watch.together_mb, "tasks": [_task(ti, triggered) for ti in found["task_instances"]]},
        )


def _ended(running: airflow.Airflow, dag_id: str, conf: dict[str, Any]) -> dict[str, Any]:
    """Trigger a run and return it when it has ended."""
    run: dict[str, Any]
    _, run = running.call("POST", f"dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
    while run["state"] not in {"success", "failed"}:
        time.sleep(POLL_S)
        running.check()
        _, run = running.call("GET", f"dags/{dag_id}/dagRuns/{run['dag_run_id']}")
    return run


def _task(ti: dict[str, Any], triggered: datetime) -> dict[str, Any]:
    """Return the start and the end of a task, in seconds since the trigger."""
    begin, end = (round((datetime.fromisoformat(ti[name]) - triggered).total_seconds(), 2) for name in ("start_date", "end_date"))
    return {"task": ti["task_id"], "map_index": ti["map_index"], "from_s": begin, "to_s": end}


@contextmanager
def _started(on: Bench, job: Job, dag: Dag, given: dict[str, str], checkout: Checkout) -> Iterator[airflow.Airflow]:
    """Start Airflow and unpause the DAG."""
    folder = on.folder / "airflow"
    port = state.ports(folder / "ports.json", "api")["api"]
    on.postgres.ensure_database(DATABASE)
    settings = airflow.settings(folder, database=on.postgres.dsn(DATABASE, "postgresql+psycopg2"), port=port)
    own = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dag.folder),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(checkout.root / "plugins"),
        "AIRFLOW__CORE__PARALLELISM": str(max(4, job.tasks)),
        "ANOMALY_SCHEDULE": "0 0 1 1 *",  # so that no scheduled run comes between
    }
    running = airflow.Airflow(folder, env=checkout.environment() | settings | own | given | dict(checkout.settings))
    since = datetime.now(UTC)
    try:
        if on.postgres.comment_on(DATABASE) != airflow.schema_comment():
            running.start_migration()
        while not running.migration_finished():
            time.sleep(POLL_S)
        on.postgres.set_comment_on(DATABASE, airflow.schema_comment())
        running.start()
        wait_until_ready(running, within_s=READY_S)
        _await_dag(running, dag.dag_id, since)
        yield running
    finally:
        running.stop()


def _await_dag(running: airflow.Airflow, dag_id: str, since: datetime) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        _, found = running.call("GET", f"dags/{dag_id}")
        if found and (found.get("last_parsed_time") or "") >= since.isoformat():
            running.call("PATCH", f"dags/{dag_id}", {"is_paused": False})
            return
        time.sleep(POLL_S)
    raise JobFailed(f"Airflow has not read {dag_id} within {READY_S} s")


class _ResourceMonitor:
    """Measures processor time and memory of Airflow's processes, from `with` to `close`."""

    def __init__(self) -> None:
        self._roots = [process for process in psutil.Process().children() if "airflow" in " ".join(process.cmdline())]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.processor_s = 0.0
        self.largest_mb = self.together_mb = 0.0

    def __enter__(self) -> Self:
        self._before_s = self._processor_s()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.processor_s = self._processor_s() - self._before_s

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            sizes = [size for process in self._all() if (size := _rss_mb(process))]
            self.largest_mb = max(self.largest_mb, *sizes)
            self.together_mb = max(self.together_mb, sum(sizes))

    def _processor_s(self) -> float:
        """Return the processor time of running processes and, as their parents count it, of ended ones."""
        return sum(_times_s(process) for process in self._all())

    def _all(self) -> list[psutil.Process]:
        return [process for root in self._roots for process in (root, *root.children(recursive=True))]


def _times_s(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0


def _rss_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss / MIB)
    except psutil.NoSuchProcess:
        return 0.0
