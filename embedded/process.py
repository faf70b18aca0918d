"""Child processes with a log file and a record on disk. They stop within a time limit, and end even if this process is killed."""

from __future__ import annotations

import abc
import functools
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import psutil

from embedded import signals
from embedded.errors import StartFailed
from embedded.process_group import ProcessGroup
from embedded.state import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent


class Service(Protocol):
    """An embedded service, as `bin/run` and the tests use it."""

    name: str

    @property
    def log(self) -> Path:
        """File for its output."""

    @property
    def address(self) -> str:
        """Host and port on which it listens; known after `start`."""

    def start(self) -> None:
        """Start it, without waiting until it is ready."""

    def ready(self) -> bool:
        """Return whether it is ready.

        Raises:
            StartFailed: it has ended.
        """

    def check(self) -> None:
        """Raise StartFailed if it has ended by itself."""

    def request_stop(self) -> None:
        """Send the stop signal without waiting, so that several services stop at the same time."""

    def stop(self) -> None:
        """Stop it; none of its processes runs afterwards. Does nothing if it does not run."""


class ChildProcess:
    """A process in its own session. It ends when this process ends, even by SIGKILL: see `embedded.watchdog`."""

    def __init__(self, name: str, folder: Path, *, stop_signal: int = signal.SIGTERM, stop_s: float = 10, stop_all: bool = False) -> None:
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self._records = folder / "running"
        self._stop = (stop_signal, stop_s, stop_all)
        self._process: subprocess.Popen[bytes] | None = None
        self._group: ProcessGroup | None = None

    def start(self, command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None, user: int | None = None) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._records.mkdir(parents=True, exist_ok=True)
        _watch(self._records)
        with self.log.open("ab") as log, signals.deferred():
            self._process = subprocess.Popen(  # noqa: S603  # commands of this package
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, user=user, group=user
            )
            self._group = self._recorded(self._process.pid, cwd)

    @property
    def started(self) -> bool:
        return self._process is not None

    def exit_code(self) -> int | None:
        """Return its exit code; None while it runs or if it was never started."""
        return self._process.poll() if self._process else None

    def wait(self) -> int:
        """Wait until it ends; return its exit code."""
        if self._process is None:
            raise StartFailed(f"{self.name} was never started")
        return self._process.wait()

    def check(self) -> None:
        """Raise StartFailed if it has ended by itself."""
        if (code := self.exit_code()) is not None:
            raise StartFailed(f"{self.name} ended by itself with code {code}; its log is {self.log}")

    def request_stop(self) -> None:
        """Send the stop signal without waiting."""
        if self._group:
            self._group.request_stop()

    def stop(self, on_wait: Callable[[float], None] = lambda _: None) -> None:
        """Stop it and all its descendants. *on_wait* is called as by `ProcessGroup.stop`."""
        if self._process is None or self._group is None:
            return
        group, self._group = self._group, None
        group.stop(on_wait)
        self._process.wait(timeout=10)
        (self._records / f"{group.pid}.json").unlink(missing_ok=True)

    def _recorded(self, pid: int, cwd: Path) -> ProcessGroup:
        stop_signal, stop_s, to_all = self._stop
        try:
            started = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            started = time.time()
        group = ProcessGroup(pid=pid, started=started, folder=str(cwd), stop_signal=stop_signal, stop_s=stop_s, to_all=to_all)
        group.write(self._records / f"{pid}.json")
        return group


class Server(abc.ABC):
    """A service that is one child process and listens on one port. As a context manager: ready inside, stopped on exit.

    A subclass implements `start` and `ready`.
    """

    def __init__(self, name: str, folder: Path, *, stop_signal: int = signal.SIGTERM, stop_s: float, ready_s: float = 60) -> None:
        self.name = name
        self.folder = folder.resolve()
        self.port = 0
        self._ready_s = ready_s
        self._child = ChildProcess(name, self.folder, stop_signal=stop_signal, stop_s=stop_s)

    def __enter__(self) -> Self:
        try:
            self.start()
            wait_until_ready(self, within_s=self._ready_s)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        return self._child.log

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @abc.abstractmethod
    def start(self) -> None: ...

    @abc.abstractmethod
    def ready(self) -> bool: ...

    def check(self) -> None:
        self._child.check()

    def request_stop(self) -> None:
        self._child.request_stop()

    def stop(self) -> None:
        self._child.stop()


@functools.cache
def _watchdog() -> subprocess.Popen[str]:
    """Start the watchdog of this process. Its stdin is a pipe that closes when this process ends."""
    return subprocess.Popen(
        [sys.executable, "-m", "embedded.watchdog"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )


@functools.cache
def _watch(folder: Path) -> None:
    """Have the watchdog stop what is recorded in *folder*."""
    if pipe := _watchdog().stdin:
        pipe.write(f"{folder.resolve()}\n")
        pipe.flush()


def wait_until_ready(service: Service, *, within_s: float) -> None:
    """Wait until *service* is ready.

    Raises:
        StartFailed: it ended, or was not ready within *within_s* seconds.
    """
    deadline = time.monotonic() + within_s
    while not service.ready():
        if time.monotonic() > deadline:
            raise StartFailed(f"{service.name} was not ready within {within_s:g} s; its log is {service.log}")
        time.sleep(0.05)  # servers do not report when they are ready
