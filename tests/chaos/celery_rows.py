"""Rows with the CeleryExecutor: two workers with one task each, one of which ends."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING

from embedded.postgres import Postgres
from embedded.process import ROOT, ChildProcess
from embedded.process_group import ProcessGroup, send
from tests.chaos.airflow_rows import RUN_S, Scheduled
from tests.chaos.rows import FIRST, RECORDS, Row
from tests.chaos.workers import until
from tests.chaos.world import SLOTS
from tests.parts.gates import CallGate
from tests.parts.redis_server import Redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.chaos.world import World

WORKERS = 2
START_S = 180.0


class Worker:
    """A Celery worker that runs one task at a time, in the process group that it leads."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder / name
        # Not stop_all: a row shows which signals the worker passes on to its tasks.
        self._child = ChildProcess(name, self._folder, stop_s=10)

    def start(self, env: dict[str, str]) -> None:
        self._folder.mkdir(parents=True)
        alone = ["--skip-serve-logs", "--without-mingle", "--without-gossip", "--pid", str(self._folder / "pid")]
        words = ["celery", "worker", "--concurrency", "1", "--celery-hostname", self._name, *alone]
        self._child.start([sys.executable, "-m", "airflow", *words], cwd=ROOT, env=env)

    def signal(self, number: int) -> None:
        """Send a signal to the worker only, as init or a container runtime does."""
        group = self._group()
        send(number, [member for member in group.members() if member.pid == group.pid])

    def kill(self) -> None:
        """Kill the worker and all its descendants, as when their machine fails."""
        group = self._group()
        until(lambda: not _killed(group), within_s=10, what="a killed worker ends")

    def _group(self) -> ProcessGroup:
        (record,) = (self._folder / "running").glob("*.json")
        group = ProcessGroup.read(record)
        assert group
        return group

    def await_end(self) -> int | None:
        until(lambda: self._child.exit_code() is not None, within_s=RUN_S, what=f"{self._name} ends by itself")
        return self._child.exit_code()

    def stop(self) -> None:
        self._child.stop()


def _killed(group: ProcessGroup) -> bool:
    """Kill the processes of the group that still run; return whether there were any."""
    found = group.members()
    send(signal.SIGKILL, found)
    return bool(found)


@contextlib.contextmanager
def at_work(world: World) -> Iterator[tuple[Scheduled, str, Worker]]:
    """Start a run with one task on each of two workers, whose requests to the detector block after the first answers."""
    world.settings = {"TASK_BACKOFF_S": 5, "DETECTOR_READ_TIMEOUT_S": 120}
    world.add(RECORDS)
    world.detecting = CallGate(FIRST)
    with Redis(world.folder / "redis") as broker, Postgres(world.folder / "metadata") as server, contextlib.ExitStack() as started:
        server.ensure_database("airflow")
        database = server.dsn("airflow", "postgresql+psycopg2")
        celery = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": broker.url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
        }
        scheduled = Scheduled(world, database, celery)
        started.callback(scheduled.stop)
        scheduled.start()
        workers = [Worker(f"worker-{number}", world.folder / "workers") for number in range(WORKERS)]
        for worker in workers:
            started.callback(worker.stop)
            worker.start(scheduled.env)
        started.callback(world.detecting.open)
        run_id = scheduled.trigger(tasks=WORKERS)
        until(lambda: world.detecting.blocked == WORKERS * SLOTS and world.committed == FIRST, within_s=START_S, what="two tasks at work")
        yield scheduled, run_id, workers[0]


def worker_dies(world: World) -> float:
    with at_work(world) as (scheduled, run_id, worker):
        began = time.monotonic()
        worker.kill()
        world.detecting.open()
        world.stuck = world.await_leases_over()
        assert scheduled.await_end(run_id) == "success"
        assert scheduled.tries(run_id) == [1, 2]
        return began


def warm_shutdown(world: World) -> float:
    """Shut a worker down warm: it accepts no further task and ends after its current one."""
    with at_work(world) as (scheduled, run_id, worker):
        began = time.monotonic()
        worker.signal(signal.SIGTERM)
        world.detecting.open()
        assert worker.await_end() == 0
        assert scheduled.await_end(run_id) == "success"
        assert scheduled.tries(run_id) == [1, 1]
        return began


def cold_shutdown(world: World) -> float:
    """Shut a worker down cold: its task gets a signal and releases its records within the grace period."""
    with at_work(world) as (scheduled, run_id, worker):
        began = time.monotonic()
        worker.signal(signal.SIGQUIT)
        worker.await_end()
        assert world.committed == FIRST
        world.detecting.open()
        assert scheduled.await_end(run_id) == "success"
        assert scheduled.tries(run_id) == [1, 2]
        return began


def celery_rows() -> list[Row]:
    return [
        Row("SIGKILL of a Celery worker and its children while detecting", worker_dies, asked_twice_max=SLOTS),
        Row("SIGTERM to a Celery worker while detecting (warm shutdown)", warm_shutdown),
        Row("SIGQUIT to a Celery worker while detecting (cold shutdown)", cold_shutdown, asked_twice_max=SLOTS),
    ]
