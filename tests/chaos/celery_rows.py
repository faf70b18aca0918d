"""Rows with the CeleryExecutor: two workers of one task each behind a broker, and one of them goes."""

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
    """A Celery worker that runs one task at a time; it leads a session, and its tasks are in it."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder / name
        # It is asked alone, and not its tasks: each row tells what it passes on to them.
        self._child = ChildProcess(name, self._folder, stop_s=10)

    def start(self, env: dict[str, str]) -> None:
        self._folder.mkdir(parents=True)
        alone = ["--skip-serve-logs", "--without-mingle", "--without-gossip", "--pid", str(self._folder / "pid")]
        words = ["celery", "worker", "--concurrency", "1", "--celery-hostname", self._name, *alone]
        self._child.start([sys.executable, "-m", "airflow", *words], cwd=ROOT, env=env)

    def signal(self, number: int) -> None:
        """To the worker alone, as a machine's init or a container's runtime sends it."""
        session = self._session()
        send(number, [member for member in session.members() if member.pid == session.pid])

    def kill(self) -> None:
        """SIGKILL to it and to all that it started, as when its machine goes."""
        session = self._session()
        until(lambda: not _killed(session), within_s=10, what="a killed worker ends")

    def _session(self) -> ProcessGroup:
        (record,) = (self._folder / "running").glob("*.json")
        session = ProcessGroup.read(record)
        assert session
        return session

    def await_end(self) -> int | None:
        until(lambda: self._child.exit_code() is not None, within_s=RUN_S, what=f"{self._name} ends by itself")
        return self._child.exit_code()

    def stop(self) -> None:
        self._child.stop()


def _killed(session: ProcessGroup) -> bool:
    """Whether there was anything to kill."""
    found = session.members()
    send(signal.SIGKILL, found)
    return bool(found)


@contextlib.contextmanager
def at_work(world: World) -> Iterator[tuple[Scheduled, str, Worker]]:
    """A run whose two tasks are at work, on a worker each; their requests to the detector hang after the first answers."""
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


def dies(world: World) -> float:
    with at_work(world) as (scheduled, run_id, worker):
        began = time.monotonic()
        worker.kill()
        world.detecting.open()
        world.stuck = world.await_leases_over()
        assert scheduled.await_end(run_id) == "success"
        assert scheduled.tries(run_id) == [1, 2]
        return began


def ends_what_it_has(world: World) -> float:
    """A warm shutdown: it takes no other task, and ends when the one that it has is through."""
    with at_work(world) as (scheduled, run_id, worker):
        began = time.monotonic()
        worker.signal(signal.SIGTERM)
        world.detecting.open()
        assert worker.await_end() == 0
        assert scheduled.await_end(run_id) == "success"
        assert scheduled.tries(run_id) == [1, 1]
        return began


def gives_back(world: World) -> float:
    """A cold shutdown: its task is told to stop, and gives back what it holds within its grace."""
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
        Row("SIGKILL of a Celery worker and its children while detecting", dies, asked_twice_max=SLOTS),
        Row("SIGTERM to a Celery worker while detecting (warm shutdown)", ends_what_it_has),
        Row("SIGQUIT to a Celery worker while detecting (cold shutdown)", gives_back, asked_twice_max=SLOTS),
    ]
