"""Process sessions: each child leads one, so that all of its descendants can be found and ended."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

POLL_S = 0.05
KILL_S = 10.0
"""How long a killed process may take to disappear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A child that we started, recognisable after we have died."""

    pid: int
    started: float
    """Seconds since the epoch, as the system keeps it; tells the child from a later process with its id."""
    folder: str
    """Where it and its descendants work."""
    stop_signal: int
    stop_s: float
    """How long it may take to stop by itself."""
    to_all: bool
    """Whether its descendants are asked to stop too, and not only the leader."""

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The session recorded at *path*; None when the record was cut off or is gone."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)

    def members(self) -> list[psutil.Process]:
        """Its processes that still run; none when the id belongs to someone else by now."""
        found = [process for pid in psutil.pids() if (process := _in_session(pid, self.pid))]
        leader = next((process for process in found if process.pid == self.pid), None)
        if leader is not None and abs(_started(leader) - self.started) > 1:
            return []
        return [process for process in found if process.pid == self.pid or _works_in(process, self.folder)]

    def end(self) -> None:
        """Stop it, politely first; afterwards none of its processes runs."""
        self.ask()
        self.wait_gone(self.stop_s)
        deadline = time.monotonic() + KILL_S
        while (left := self.members()) and time.monotonic() < deadline:
            send(signal.SIGKILL, left)
            time.sleep(POLL_S)  # what is no child of ours can only be looked for

    def ask(self) -> None:
        """Send the stop signal."""
        send(self.stop_signal, [member for member in self.members() if self.to_all or member.pid == self.pid])

    def wait_gone(self, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while self.members():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)  # for the same reason
        return True


def send(number: int, processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def end_recorded(folder: Path) -> int:
    """End every session that *folder* has a record of, and forget it; return how many still ran."""
    found = {path: session for path in sorted(folder.glob("*.json")) if (session := Session.read(path)) and session.members()}
    for session in found.values():
        session.ask()
    for session in found.values():
        session.end()
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
    """Guard against a session id that was given away again: whatever descends from ours works in our folder."""
    try:
        return os.path.commonpath([process.cwd(), folder]) == folder
    except (psutil.Error, OSError, ValueError):
        return False
