"""One child process: started with a log file and a record, stopped with a bound, never left behind."""

from __future__ import annotations

import abc
import functools
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, Self

import psutil

from embedded.errors import StartFailed
from embedded.process_group import Session
from embedded.signals import held_back
from embedded.state import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent


class Part(Protocol):
    """What `bin/run` and the tests know of an embedded part."""

    name: str

    @property
    def log(self) -> Path:
        """Where its output goes."""

    @property
    def address(self) -> str:
        """Where it listens; known once it was started."""

    def start(self) -> None:
        """Begin to start it; returns before it is ready."""

    def ready(self) -> bool:
        """Whether it does its work by now.

        Raises:
            StartFailed: it has ended instead.
        """

    def check(self) -> None:
        """Raise StartFailed if it has ended by itself."""

    def ask(self) -> None:
        """Ask it to stop, without waiting: several parts stop side by side."""

    def stop(self) -> None:
        """Stop it; afterwards none of its processes runs. Stopping twice, or what never started, is fine."""


class Child:
    """A process in a session of its own. It dies with us, even if we are killed: see `embedded.watchdog`."""

    def __init__(self, name: str, folder: Path, *, stop_signal: int = signal.SIGTERM, stop_s: float = 10, stop_all: bool = False) -> None:
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self._records = folder / "running"
        self._stop = (stop_signal, stop_s, stop_all)
        self._process: subprocess.Popen[bytes] | None = None
        self._session: Session | None = None

    def start(self, command: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None, user: int | None = None) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._records.mkdir(parents=True, exist_ok=True)
        _watch(self._records)
        with self.log.open("ab") as log, held_back():
            self._process = subprocess.Popen(  # noqa: S603  # the commands are ours
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, user=user, group=user
            )
            self._session = self._recorded(self._process.pid, cwd)

    @property
    def started(self) -> bool:
        return self._process is not None

    def finished(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll() if self._process else None

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        if self._process is None:
            raise StartFailed(f"{self.name} was never started")
        return self._process.wait()

    def check(self) -> None:
        """Raise StartFailed if it has ended by itself."""
        if (code := self.finished()) is not None:
            raise StartFailed(f"{self.name} ended with code {code} by itself; its log is {self.log}")

    def ask(self) -> None:
        """Ask it to stop, without waiting; several children stop side by side."""
        if self._session:
            self._session.ask()

    def stop(self) -> None:
        """Stop it and all of its descendants."""
        if self._process is None or self._session is None:
            return
        session, self._session = self._session, None
        self._reap_until_gone(session)
        (self._records / f"{session.pid}.json").unlink(missing_ok=True)

    def _recorded(self, pid: int, cwd: Path) -> Session:
        stop_signal, stop_s, to_all = self._stop
        try:
            started = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            started = time.time()
        session = Session(pid=pid, started=started, folder=str(cwd), stop_signal=stop_signal, stop_s=stop_s, to_all=to_all)
        session.write(self._records / f"{pid}.json")
        return session

    def _reap_until_gone(self, session: Session) -> None:
        session.end()
        if self._process is not None:
            self._process.wait(timeout=10)


class Server(abc.ABC):
    """A part that is one child process, listens on one port, and is a context manager: ready within, gone after it.

    Who inherits says how to `start` and when it is `ready`.
    """

    def __init__(self, name: str, folder: Path, *, stop_signal: int = signal.SIGTERM, stop_s: float, ready_s: float = 60) -> None:
        self.name = name
        self.folder = folder.resolve()
        self.port = 0
        self._ready_s = ready_s
        self._child = Child(name, self.folder, stop_signal=stop_signal, stop_s=stop_s)

    def __enter__(self) -> Self:
        try:
            self.start()
            await_ready(self, within_s=self._ready_s)
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

    def ask(self) -> None:
        self._child.ask()

    def stop(self) -> None:
        self._child.stop()


class _Warden:
    """The warden of this process: it holds the other end of a pipe that closes when we are gone."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "embedded.watchdog"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def watch(self, folder: Path) -> Self:
        pipe: IO[str] | None = self._process.stdin
        if pipe is not None:
            pipe.write(f"{folder}\n")
            pipe.flush()
        return self


@functools.cache
def _warden() -> _Warden:
    return _Warden()


@functools.cache
def _watch(folder: Path) -> None:
    _warden().watch(folder.resolve())


def await_ready(part: Part, *, within_s: float) -> None:
    """Wait until *part* is ready.

    Raises:
        StartFailed: it ended, or it was not ready within *within_s* seconds.
    """
    deadline = time.monotonic() + within_s
    while not part.ready():
        if time.monotonic() > deadline:
            raise StartFailed(f"{part.name} was not ready within {within_s:g} s; its log is {part.log}")
        time.sleep(0.05)  # a server tells nobody when it is ready
