"""Runs blocking calls on bounded threads, and awaits them from an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Timings = dict[str, float]
"""Milliseconds by operation."""


class Stage:
    """A bounded number of threads, which take calls in the order in which they were made. For one event loop's thread.

    Results that arrive together wake the loop once. `run_in_executor` wakes it for each call, which takes more than twice the
    processor time of a record.
    """

    def __init__(self, name: str, *, workers: int) -> None:
        self._name = name
        self._workers = workers
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], asyncio.Future[Any]] | None] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None, float]] = deque()
        self._will_wake = False
        self._threads = 0
        self.busy = 0
        """Calls that wait or run."""

    async def run(self, function: Callable[..., T], *arguments: Any, timings: Timings | None = None, operation: str | None = None) -> T:
        """Call *function* on a thread and return its result, or raise its exception.

        The call's milliseconds are added to *timings* under *operation*, by default the name of the stage. Cancelling the caller
        does not stop a call that has begun; its result is dropped.
        """
        future: asyncio.Future[tuple[T, BaseException | None, float]] = self._loop.create_future()
        self.busy += 1
        if self._threads < min(self.busy, self._workers):
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        self._calls.put((function, arguments, future))
        result, error, took_ms = await future
        if timings is not None:
            timings[operation or self._name] = round(timings.get(operation or self._name, 0.0) + took_ms, 3)
        if error is not None:
            try:
                raise error
            finally:
                del error  # else the exception and this frame would keep each other, and the image, in memory
        return result

    def close(self) -> None:
        """Let each thread end after its current call. Threads are daemons and are not waited for."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            function, arguments, future = call
            result, error, began = None, None, time.monotonic()
            if not future.cancelled():
                try:
                    result = function(*arguments)
                except BaseException as exc:  # noqa: BLE001  # the caller on the loop decides what follows
                    error = exc
            self._done.append((future, result, error, (time.monotonic() - began) * 1000))
            del call, function, arguments, future, result, error  # a thread that waits keeps no image
            if not self._will_wake:
                self._will_wake = True
                with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                    self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        self._will_wake = False  # first, so that a result that arrives meanwhile is resolved below or wakes the loop again
        while self._done:
            future, *outcome = self._done.popleft()
            self.busy -= 1
            if not future.done():
                future.set_result(outcome)
