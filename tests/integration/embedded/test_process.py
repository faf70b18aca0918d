"""Child processes: stopped within a time limit, found after their parent has died, never confused with other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from embedded.errors import StartFailed
from embedded.process import ROOT, ChildProcess
from embedded.process_group import ProcessGroup, stop_recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IGNORES_TERM = "trap '' TERM; echo up; while :; do sleep 0.1; done"
WITH_GRANDCHILD = "sleep 600 & echo up; wait"
PARENT = """
import sys, time
from pathlib import Path
from embedded.process import ChildProcess
from embedded.postgres import Postgres

folder = Path(sys.argv[1])
child = ChildProcess("shell", folder / "shell")
child.start(["sh", "-c", "sleep 600 & sleep 600"], cwd=folder)
with Postgres(folder / "postgres"):
    print("up", flush=True)
    time.sleep(600)
"""


def eventually(holds: Callable[[], bool], *, within_s: float = 30) -> bool:
    deadline, pause = time.monotonic() + within_s, threading.Event()
    while not holds() and time.monotonic() < deadline:
        pause.wait(0.02)
    return holds()


def working_in(folder: Path) -> list[psutil.Process]:
    """Processes whose working folder is below *folder*, without zombies."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Callable[..., ChildProcess]]:
    """Starts shell scripts, and stops those that a failed test left."""
    made: list[ChildProcess] = []

    def start(script: str, *, stop_s: float = 5) -> ChildProcess:
        child = ChildProcess("shell", tmp_path, stop_s=stop_s)
        made.append(child)
        child.start(["sh", "-c", script], cwd=tmp_path)
        assert eventually(lambda: "up" in child.log.read_text())
        return child

    yield start
    for child in made:
        child.stop()


def recorded(folder: Path) -> ProcessGroup:
    (path,) = (folder / "running").glob("*.json")
    session = ProcessGroup.read(path)
    assert session is not None
    return session


def test_a_child_that_ignores_the_stop_signal_is_killed_after_its_time_limit(children: Callable[..., ChildProcess], tmp_path: Path) -> None:
    child = children(IGNORES_TERM, stop_s=0.3)
    assert working_in(tmp_path)
    child.stop()
    assert child.exit_code() == -signal.SIGKILL
    assert not working_in(tmp_path)


def test_descendants_end_with_the_child_and_its_record_is_gone(children: Callable[..., ChildProcess], tmp_path: Path) -> None:
    child = children(WITH_GRANDCHILD, stop_s=0.3)
    assert len(working_in(tmp_path)) == 2
    child.stop()
    assert not working_in(tmp_path)
    assert not list((tmp_path / "running").iterdir())


def test_stopping_twice_or_without_a_start_does_nothing(children: Callable[..., ChildProcess], tmp_path: Path) -> None:
    child = children("echo up; sleep 600")
    child.stop()
    child.stop()
    ChildProcess("never", tmp_path).stop()


def test_the_error_of_a_child_that_ended_by_itself_names_its_log(children: Callable[..., ChildProcess]) -> None:
    child = children("echo up; echo why it ended; exit 3")
    assert eventually(lambda: child.exit_code() == 3)
    with pytest.raises(StartFailed, match=f"ended by itself with code 3; its log is {child.log}"):
        child.check()


def test_sigkill_of_the_parent_leaves_no_child_and_no_grandchild(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(PARENT), str(tmp_path)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603  # a constant script
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        assert len(working_in(tmp_path)) > 3
        parent.kill()
    assert eventually(lambda: not working_in(tmp_path))
    assert eventually(lambda: not list(tmp_path.glob("*/running/*.json")))


def test_a_leftover_process_is_found_by_its_record_and_stopped(children: Callable[..., ChildProcess], tmp_path: Path) -> None:
    child = children(WITH_GRANDCHILD, stop_s=0.3)
    assert stop_recorded(tmp_path / "running") == 1
    assert not working_in(tmp_path)
    assert child.exit_code() is not None


def test_a_leftover_whose_leader_has_died_is_stopped_too(children: Callable[..., ChildProcess], tmp_path: Path) -> None:
    child = children(WITH_GRANDCHILD)
    os.kill(recorded(tmp_path).pid, signal.SIGKILL)
    assert eventually(lambda: child.exit_code() is not None)
    assert len(working_in(tmp_path)) == 1
    assert stop_recorded(tmp_path / "running") == 1
    assert not working_in(tmp_path)


def test_a_process_that_got_the_id_of_a_dead_child_is_left_alone(children: Callable[..., ChildProcess], tmp_path: Path) -> None:
    child = children("echo up; sleep 600")
    mine = recorded(tmp_path)
    replace(mine, started=mine.started - 3600).write(tmp_path / "running" / f"{mine.pid}.json")
    assert stop_recorded(tmp_path / "running") == 0
    assert child.exit_code() is None


def test_an_incomplete_record_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text('{"pid": 1')
    assert stop_recorded(tmp_path) == 0
    assert not list(tmp_path.iterdir())
