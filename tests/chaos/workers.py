"""Tries of tasks as processes that can be killed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
KILL_AFTER_S = 5.0
"""Time between SIGTERM and SIGKILL of a task, as in Airflow."""


def until(condition: Callable[[], object], *, within_s: float, what: str, every_s: float = 0.02) -> None:
    """Wait until a condition holds; raise TimeoutError after *within_s* seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:g} s: {what}")
        time.sleep(every_s)  # the condition depends on other processes


@dataclass(frozen=True)
class Try:
    """One try of a task, in its own process."""

    pid: int
    answer: Path
    log: Path
    slow_to_end: list[str]

    @property
    def alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def ended(self) -> dict[str, Any] | None:
        """Return its outcome once its process has ended; None if it was killed."""
        if not self.answer.exists():
            return None
        found: dict[str, Any] = json.loads(self.answer.read_text())
        return found

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        until(lambda: not self.alive, within_s=10, what="a killed process ends")

    def terminate(self, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Send SIGTERM, and SIGKILL after KILL_AFTER_S, as Airflow does."""
        os.kill(self.pid, signal.SIGTERM)
        meanwhile()
        try:
            until(lambda: not self.alive, within_s=KILL_AFTER_S, what="ends by SIGTERM")
        except TimeoutError:
            self.slow_to_end.append(f"process {self.pid} had to be killed {KILL_AFTER_S:g} s after SIGTERM")
            self.kill()


class Workers:
    """A process that has imported the project and Airflow, and forks each try."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lock = threading.Lock()
        self._number = itertools.count(1)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY", "PYTEST"))}
        self._env = kept | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "no-plugins"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("", "plugins")),
        }

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.chaos.worker"]
        self._log = (self._home / "workers.log").open("w")
        self._process = subprocess.Popen(  # noqa: S603  # a constant command
            command, cwd=ROOT, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._read() == "ready", (self._home / "workers.log").read_text()
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()
        self._process.wait(30)
        self._log.close()

    def start(self, asked: dict[str, Any], *, log: Path, slow_to_end: list[str]) -> Try:
        with self._lock:
            answer = self._home / f"answer-{next(self._number)}.json"
            assert self._process.stdin
            self._process.stdin.write(json.dumps(asked | {"answer": str(answer), "log": str(log)}) + "\n")
            self._process.stdin.flush()
            return Try(int(self._read()), answer, log, slow_to_end)

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()
