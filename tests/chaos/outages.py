"""Rows in which the tasks survive: services become unavailable, other runs work at the same time, an image kills its worker."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import psutil

from embedded.process import wait_until_ready
from tests.chaos.rows import COMMIT, FIRST, RUN_S, Row
from tests.chaos.workers import until
from tests.chaos.world import SLOTS, WITHIN_S
from tests.parts.gates import CallGate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.world import World

DONE = 8
RECORDS = 40
POISON = 17
RUNS_MAX = 5
DEATHS_MAX = 7
"""Most deaths until the image is identified. Each loses the requests in flight for other records."""


def during_work(
    name: str,
    break_it: Callable[[World], None],
    repair: Callable[[World], None],
    *,
    held: str,
    away_s: float = 0.0,
    own_server: bool = False,
    **settings: float,
) -> Row:
    """Return a row with an outage while requests for images (*held* `fetching`) or to the detector (`detecting`) are in flight."""

    def play(world: World) -> float:
        world.settings = settings
        world.add(RECORDS)
        gate = CallGate(DONE)
        setattr(world, held, gate)
        run = world.run("only")
        run.start()
        until(lambda: gate.blocked == SLOTS and world.committed == DONE, within_s=WITHIN_S, what=name)
        began = time.monotonic()
        break_it(world)
        gate.open()
        time.sleep(away_s)  # an outage is real time: leases, timeouts and backoff of the processes run by their own clocks
        repair(world)
        run.wait(within_s=RUN_S)
        assert run.state == "success"
        return began

    return Row(name, play, own_server=own_server)


def at_commit(name: str, *, deliver: bool) -> Row:
    """Return a row that cuts the connections of commits, before the server has received them or after it has executed them."""

    def play(world: World) -> float:
        world.add(RECORDS)
        trap = world.database.trap(COMMIT, skip=FIRST, deliver=deliver)
        run = world.run("only")
        run.start()
        until(lambda: trap.caught == SLOTS and world.committed == FIRST + deliver * SLOTS, within_s=WITHIN_S, what=name)
        began = time.monotonic()
        trap.cut()
        run.wait(within_s=RUN_S)
        assert run.state == "success"
        return began

    return Row(name, play)


def inside_commit(world: World) -> float:
    world.add(RECORDS)
    waiting = world.shut_commits(after=FIRST)
    run = world.run("only")
    run.start()
    until(lambda: waiting() > 0, within_s=WITHIN_S, what="a commit runs")
    began = time.monotonic()
    world.database.reset()
    world.open_commits()
    run.wait(within_s=RUN_S)
    assert run.state == "success"
    return began


def kill_postgres(world: World) -> None:
    server = psutil.Process(int((world.postgres.data / "postmaster.pid").read_text().split()[0]))
    for process in (server, *server.children(recursive=True)):
        process.kill()
    world.postgres.stop()
    world.postgres.start()
    wait_until_ready(world.postgres, within_s=WITHIN_S)


def black_hole_everything(world: World) -> None:
    for proxy in (world.database, world.bucket, world.images, world.detector):
        proxy.black_hole()


def forward_everything(world: World) -> None:
    for proxy in (world.database, world.bucket, world.images, world.detector):
        proxy.forward()


def refuse_detector(world: World) -> None:
    world.detector.refuse()


def side_by_side(world: World) -> float:
    """Run two runs and a backfill on the same records at the same time, each with two tasks."""
    world.add(300)
    (start,) = (row["at"] for row in world.rows("select min(captured_at) as at from anomaly.records"))
    began = time.monotonic()
    half = (start, start + timedelta(minutes=150))
    runs = [world.run("one", batch_size=50, chunk_size=25), world.run("two", batch_size=50, chunk_size=25)]
    runs.append(world.run("backfill", batch_size=50, chunk_size=25, window=half))
    for run in runs:
        run.start()
    for run in runs:
        run.wait(within_s=RUN_S)
        assert run.state == "success"
    assert min(world.count("ai_results", f"run_id = '{name}'") for name in ("one", "two", "backfill")) > 0
    assert world.count("ai_results", "run_id = 'backfill' and record_id > 150") == 0
    return began


def poison(world: World) -> float:
    """Kill the process that fetches one image among 50, each time."""

    def at(number: int) -> None:
        if number == POISON:
            for each in world.tries:
                if each.alive:
                    os.kill(each.pid, signal.SIGKILL)

    world.add(50, at=at)
    began = time.monotonic()
    for number in range(RUNS_MAX):
        run = world.run(f"run {number}", batch_size=25, chunk_size=25)
        run.start()
        run.wait(within_s=RUN_S)
        if world.count("records", "status = 'quarantined'"):
            break
    (found,) = world.rows("select id, last_error_code from anomaly.records where status = 'quarantined'")
    assert found == {"id": POISON + 1, "last_error_code": "worker_lost"}
    return began


def outage_rows() -> list[Row]:
    gone = partial(during_work, held="detecting")
    return [
        gone("SIGKILL of Postgres, and its restart", kill_postgres, lambda _: None, own_server=True),
        gone("database gone for 20 s", lambda w: w.database.refuse(), lambda w: w.database.forward(), away_s=20),
        at_commit("connection cut before the commit is sent", deliver=False),
        Row("connection cut while the commit runs", inside_commit),
        at_commit("connection cut after the commit, before its answer", deliver=True),
        gone("S3 gone for 20 s", lambda w: w.bucket.refuse(), lambda w: w.bucket.forward(), away_s=20),
        # The retries wait 5, 10 and 20 s, so that the last one comes after the outage.
        during_work(
            "detector gone for 30 s", refuse_detector, lambda w: w.detector.forward(), held="fetching", away_s=30, TASK_BACKOFF_S=5
        ),
        during_work(
            "every connection black-holed for 20 s",
            black_hole_everything,
            forward_everything,
            held="fetching",
            away_s=20,
            DETECTOR_READ_TIMEOUT_S=5,
            IMAGE_READ_TIMEOUT_S=5,
        ),
        Row("two runs and a backfill at once", side_by_side),
        Row("one image among 50 kills its process", poison, quarantined=1, asked_twice_max=DEATHS_MAX * 2 * SLOTS),
    ]
