"""Rows of the kill matrix in which the process of a task dies at a chosen point."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos.workers import until
from tests.chaos.world import HELD_MAX, SLOTS, WITHIN_S
from tests.parts.gates import CallGate

if TYPE_CHECKING:
    from tests.chaos.world import World

FIRST = 4
"""Records that are done before the fault. Few, because psycopg prepares most statements on their sixth use and traps match their text."""
RECORDS = FIRST + HELD_MAX
RUN_S = 120.0

CONNECT = b"idle_in_transaction_session_timeout"
OPEN = b"opened_at = clock_timestamp(), alone = null"
COMMIT = b"images/sha256/"
"""Part of an image's key, which a task sends with commits only. (It sends the text of a prepared commit once a connection.)"""
CLAIM = b"-- Claims one chunk of pending records"
END = b"set ended_at = clock_timestamp(), tally"


Armed = tuple[Callable[[], bool], Callable[[bool], None]]
"""Two functions: whether the point is reached, and one that lets work continue, called with whether the task is dead."""


@dataclass(frozen=True)
class Row:
    """One row. *play* returns the monotonic time of the fault."""

    name: str
    play: Callable[[World], float]
    asked_twice_max: int = 0
    quarantined: int = 0
    own_server: bool = False
    """True if it kills the database server, which then is not shared with other rows."""


@dataclass(frozen=True)
class Point:
    """A point in the work of a task. *arm* makes a task stop there."""

    name: str
    arm: Callable[[World], Armed]
    task: str = "process"
    asked_twice_max: int = 0
    hangs: bool = False
    """True if the task stays blocked at the point until it has ended."""


def _in_trap(
    world: World, pattern: bytes, *, skip: int = 0, deliver: bool = False, s3: bool = False, then: Callable[[], bool] = lambda: True
) -> Armed:
    trap = (world.bucket if s3 else world.database).trap(pattern, skip=skip, deliver=deliver)
    return (lambda: trap.caught > 0 and then()), lambda dead: trap.cut() if dead else trap.release()


def _blocked(world: World, gate: CallGate) -> Armed:
    return (lambda: gate.blocked >= SLOTS and world.committed == FIRST), lambda _dead: gate.open()


def _opened(world: World) -> bool:
    return world.count("chunks", "opened_at is not null") > 0


def _connecting(world: World) -> Armed:
    """Block the detector, too, so that a task that ignores the signal does not end by itself."""
    world.detecting = CallGate(0)
    reached, resume = _in_trap(world, CONNECT, skip=2)  # the claim opens two connections before

    def resume_all(dead: bool) -> None:  # noqa: FBT001  # the type Armed
        resume(dead)
        if dead:
            world.detecting.open()

    return reached, resume_all


def _fetching(world: World) -> Armed:
    world.fetching = CallGate(FIRST)
    return _blocked(world, world.fetching)


def _detecting(world: World) -> Armed:
    world.detecting = CallGate(FIRST)
    return _blocked(world, world.detecting)


def _inside_commit(world: World) -> Armed:
    waiting = world.shut_commits(after=FIRST)
    return (lambda: waiting() > 0 and world.answers == RECORDS), lambda _dead: world.open_commits()


POINTS = (
    Point("before it is connected", _connecting),
    Point("after claim", lambda w: _in_trap(w, OPEN)),
    Point("after open", lambda w: _in_trap(w, OPEN, deliver=True, then=lambda: _opened(w))),
    Point("while fetching", _fetching, hangs=True),
    Point("while detecting", _detecting, hangs=True, asked_twice_max=SLOTS),
    Point(
        "after the answer before the archive",
        lambda w: _in_trap(w, w.put("answers"), skip=FIRST, s3=True, then=lambda: w.committed == FIRST and w.quiet()),
        asked_twice_max=2 * SLOTS,
    ),
    Point("after the archive before the commit", lambda w: _in_trap(w, COMMIT, skip=FIRST, then=lambda: w.answers == RECORDS)),
    Point("inside the commit", _inside_commit),
    Point(
        "after the commit before its answer",
        lambda w: _in_trap(w, COMMIT, skip=FIRST, deliver=True, then=lambda: w.answers == RECORDS and w.committed > FIRST),
    ),
    Point("after the commit before the task ends", lambda w: _in_trap(w, END, then=lambda: w.committed == RECORDS)),
)
CLAIM_POINTS = (
    Point("claim: after its commit", lambda w: _in_trap(w, CLAIM, deliver=True, then=lambda: w.count("chunks") > 0), task="claim"),
    Point("claim: before its XCom", lambda w: _in_trap(w, w.put("runs"), s3=True), task="claim"),
)


def dies(point: Point, signal: str, *, retried: bool, source: bool = False) -> Row:
    """Return a row in which a task dies at this point; its retry continues, or the next run once its lease has expired.

    With *source*, the records are rows of a table to which verdicts are written.
    """

    def play(world: World) -> float:
        if source:
            world.use_source()
        world.add(RECORDS)
        reached, resume = point.arm(world)
        run = world.run("first")
        run.start()
        until(reached, within_s=WITHIN_S, what=point.name)
        if not retried:
            run.abandon()
        began = time.monotonic()
        victim = run.living(point.task)
        if signal == "SIGKILL":
            victim.kill()
            resume(True)
        else:
            victim.terminate(meanwhile=(lambda: None) if point.hangs else lambda: resume(False))
            resume(True)
        if not retried:
            run.wait(within_s=RUN_S)
            world.stuck = world.await_leases_over()
            run = world.run("second")
            run.start()
        run.wait(within_s=RUN_S)
        assert run.state == "success"
        return began

    name = f"{signal} {point.name}" + ("" if retried else ", next run") + (", own table" if source else "")
    return Row(name, play, asked_twice_max=point.asked_twice_max)


def process_rows() -> list[Row]:
    rows = [dies(point, signal, retried=True) for signal in ("SIGKILL", "SIGTERM") for point in (*POINTS, *CLAIM_POINTS)]
    rows += [dies(point, "SIGKILL", retried=True, source=True) for point in (*POINTS, *CLAIM_POINTS)]
    return rows + [dies(point, signal, retried=False) for signal in ("SIGKILL", "SIGTERM") for point in POINTS]
