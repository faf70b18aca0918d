"""An event loop whose time stands still until a test moves it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
BOUND_S = 20


class FakeClockLoop(asyncio.SelectorEventLoop):
    """Timers become due by `advance` alone; threads and sockets wake the loop as always."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    async def until(self, condition: Callable[[], object]) -> None:
        """Let everything run that is due, until the condition holds."""
        deadline = time.monotonic() + BOUND_S
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0)

    async def settle(self, busy: Callable[[], bool] = lambda: False) -> None:
        """Let everything run that is due and that follows from it, threads that are *busy* included."""
        idle = 0
        while idle < 20:  # more turns of the loop than any chain of callbacks here has links
            await asyncio.sleep(0)
            idle = 0 if busy() else idle + 1


def run(main: Callable[[FakeClockLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function on such a loop."""
    with asyncio.Runner(loop_factory=FakeClockLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, FakeClockLoop)
        return runner.run(main(loop))
