"""Runs blocking calls on bounded threads, and awaits them from an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Timings = dict[str, float]
"""Milliseconds by operation."""


class _Call(NamedTuple):
    stage: Stage
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: asyncio.Future[tuple[Any, BaseException | None]]
    timings: Timings | None
    operation: str


class Stages:
    """The stages of one event loop.

    Results that arrive together wake the loop once. `run_in_executor` wakes it for each call, which takes more than twice the
    processor time of a record.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._done: deque[tuple[_Call, Any, BaseException | None, float]] = deque()
        self._will_wake = False
        self._stages: list[Stage] = []

    def add(self, name: str, *, workers: int) -> Stage:
        """Return a new stage with at most *workers* threads, which start as they are needed."""
        stage = Stage(name, workers=workers, deliver=self._deliver)
        self._stages.append(stage)
        return stage

    def close(self) -> None:
        """Let each thread end after its current call. Threads are daemons and are not waited for."""
        for stage in self._stages:
            stage.close()

    def _deliver(self, call: _Call, result: Any, error: BaseException | None, took_ms: float) -> None:
        self._done.append((call, result, error, took_ms))
        if not self._will_wake:
            self._will_wake = True
            try:
                self._loop.call_soon_threadsafe(self._resolve)
            except RuntimeError:  # the loop is closed, and nobody waits any more
                return

    def _resolve(self) -> None:
        self._will_wake = False  # first, so that a result that arrives meanwhile is resolved below or wakes the loop again
        while self._done:
            call, result, error, took_ms = self._done.popleft()
            call.stage.busy -= 1
            if call.timings is not None:
                call.timings[call.operation] = round(call.timings.get(call.operation, 0.0) + took_ms, 3)
            if not call.future.done():
                call.future.set_result((result, error))


class Stage:
    """A bounded number of threads. Calls wait in the order in which they were made. For the event loop's thread."""

    def __init__(self, name: str, *, workers: int, deliver: Callable[[_Call, Any, BaseException | None, float], None]) -> None:
        self._name = name
        self._workers = workers
        self._deliver = deliver
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads = 0
        self.busy = 0
        """Calls that wait or run."""

    async def run(self, function: Callable[..., T], *arguments: Any, timings: Timings | None = None, operation: str | None = None) -> T:
        """Call *function* on a thread and return its result, or raise its exception.

        The call's milliseconds are added to *timings* under *operation*, by default the name of the stage. Cancelling the caller
        does not stop a call that has begun; its result is dropped.
        """
        future: asyncio.Future[tuple[T, BaseException | None]] = asyncio.get_running_loop().create_future()
        self.busy += 1
        if self._threads < min(self.busy, self._workers):
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        self._calls.put(_Call(self, function, arguments, future, timings, operation or self._name))
        result, error = await future
        if error is not None:
            try:
                raise error
            finally:
                del error  # else the exception and this frame would keep each other, and the image, in memory
        return result

    def close(self) -> None:
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            result, error, began = None, None, time.monotonic()
            if not call.future.cancelled():
                try:
                    result = call.function(*call.arguments)
                except BaseException as exc:  # noqa: BLE001  # the caller on the loop decides what follows
                    error = exc
            self._deliver(call, result, error, (time.monotonic() - began) * 1000)
            del call, result, error  # a thread that waits keeps no image
