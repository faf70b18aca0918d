"""Child processes with all their descendants, found by the POSIX session that the child leads."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

POLL_S = 0.05
KILL_S = 10.0
"""Time limit for killed processes to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """A child process and its descendants, described so that a later process can find and stop them."""

    pid: int
    started: float
    """Start time of the child in seconds since the epoch. Distinguishes it from a later process with the same id."""
    folder: str
    """Working directory of the child; its descendants work in it or below."""
    stop_signal: int
    stop_s: float
    """Time limit after the stop signal; then SIGKILL."""
    to_all: bool
    """Send the stop signal to the descendants as well, not only to the child."""

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Return the record at *path*; None if it is missing or incomplete."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)

    def members(self) -> list[psutil.Process]:
        """Return its processes that still run; none if another process has the id now."""
        found = [process for pid in psutil.pids() if (process := _in_session(pid, self.pid))]
        leader = next((process for process in found if process.pid == self.pid), None)
        if leader is not None and abs(_started(leader) - self.started) > 1:
            return []
        return [process for process in found if process.pid == self.pid or _works_in(process, self.folder)]

    def stop(self, on_wait: Callable[[float], None] = lambda _: None) -> None:
        """Send the stop signal, then SIGKILL after the time limit; none of its processes runs afterwards.

        Calls *on_wait* with the seconds that are left of the time limit, many times a second.
        """
        self.request_stop()
        self.wait_gone(self.stop_s, on_wait)
        deadline = time.monotonic() + KILL_S
        while (left := self.members()) and time.monotonic() < deadline:
            send(signal.SIGKILL, left)
            time.sleep(POLL_S)  # processes that are not our children cannot be waited for

    def request_stop(self) -> None:
        """Send the stop signal."""
        send(self.stop_signal, [member for member in self.members() if self.to_all or member.pid == self.pid])

    def wait_gone(self, within_s: float, on_wait: Callable[[float], None] = lambda _: None) -> bool:
        deadline = time.monotonic() + within_s
        while self.members():
            if time.monotonic() > deadline:
                return False
            on_wait(deadline - time.monotonic())
            time.sleep(POLL_S)  # as in stop()
        return True


def send(number: int, processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def stop_recorded(folder: Path) -> int:
    """Stop every process group recorded in *folder* and delete the records; return how many still ran."""
    found = {path: group for path in sorted(folder.glob("*.json")) if (group := ProcessGroup.read(path)) and group.members()}
    for group in found.values():
        group.request_stop()
    for group in found.values():
        group.stop()
    for path in folder.glob("*.json"):
        path.unlink(missing_ok=True)
    return len(found)


def _in_session(pid: int, sid: int) -> psutil.Process | None:
    try:
        if os.getsid(pid) != sid:
            return None
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except (OSError, psutil.Error):
        return None


def _started(process: psutil.Process) -> float:
    try:
        return float(process.create_time())
    except psutil.Error:
        return 0.0


def _works_in(process: psutil.Process, folder: str) -> bool:
    """Return whether the process works in *folder*. Descendants do; a process of a reused session id does not."""
    try:
        return os.path.commonpath([process.cwd(), folder]) == folder
    except (psutil.Error, OSError, ValueError):
        return False
