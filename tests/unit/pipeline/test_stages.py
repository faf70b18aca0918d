from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.pipeline.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

BOUND_S = 10


def on_a_loop(main: Callable[[Stage], Coroutine[None, None, None]], *, workers: int = 1) -> None:
    async def run() -> None:
        stage = Stage("far", workers=workers)
        try:
            async with asyncio.timeout(BOUND_S):
                await main(stage)
        finally:
            stage.close()

    asyncio.run(run())


def test_a_call_runs_on_its_stages_thread_and_its_result_is_awaited() -> None:
    async def main(stage: Stage) -> None:
        assert await stage.run(lambda n: (n, threading.current_thread().name), 3) == (3, "far-1")

    on_a_loop(main)


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), StopIteration()])
def test_an_error_of_whatever_kind_reaches_the_one_who_waits(error: BaseException) -> None:
    seen: list[BaseException] = []

    def fail() -> None:
        raise error

    async def main(stage: Stage) -> None:
        try:
            await stage.run(fail)
        except (ValueError, KeyboardInterrupt, RuntimeError) as exc:
            seen.append(exc.__cause__ or exc)

    on_a_loop(main)
    assert seen == [error]


def test_a_stage_makes_as_many_calls_at_once_as_it_has_workers_and_no_more() -> None:
    meet, at_once, most = threading.Barrier(3), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        meet.wait(BOUND_S)
        with lock:
            at_once -= 1

    async def main(stage: Stage) -> None:
        await asyncio.gather(*(stage.run(work) for _ in range(12)))
        assert stage.busy == 0

    on_a_loop(main, workers=3)
    assert most == 3


def test_results_that_are_there_together_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wakes: list[object] = []
    meet = threading.Barrier(8)

    async def main(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        call_soon_threadsafe = loop.call_soon_threadsafe
        all_done = threading.Semaphore(0)

        def held_back(callback: Callable[[], None]) -> None:
            wakes.append(callback)
            threading.Thread(
                target=lambda: [all_done.acquire(timeout=BOUND_S) for _ in range(8)] and call_soon_threadsafe(callback)
            ).start()

        monkeypatch.setattr(loop, "call_soon_threadsafe", held_back)

        class Counting(deque[Any]):
            def append(self, result: object) -> None:
                super().append(result)
                all_done.release()

        monkeypatch.setattr(stage, "_done", Counting())
        await asyncio.gather(*(stage.run(meet.wait, BOUND_S) for _ in range(8)))

    on_a_loop(main, workers=8)
    assert len(wakes) == 1


def test_the_milliseconds_of_calls_are_added_up_by_operation() -> None:
    timings: dict[str, float] = {"far": 1000.0}

    async def main(stage: Stage) -> None:
        await stage.run(lambda: None, timings=timings)
        await stage.run(lambda: None, timings=timings, operation="near")

    on_a_loop(main)
    assert timings["far"] >= 1000
    assert set(timings) == {"far", "near"}


def test_a_call_that_was_cancelled_before_it_began_is_not_made_and_the_stage_goes_on() -> None:
    made: list[str] = []
    may = threading.Event()

    async def main(stage: Stage) -> None:
        first = asyncio.create_task(stage.run(may.wait, BOUND_S))
        second = asyncio.create_task(stage.run(made.append, "second"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        may.set()
        await first
        await stage.run(made.append, "third")
        assert stage.busy == 0

    on_a_loop(main)
    assert made == ["third"]


class Image:
    pass


def test_a_thread_that_waits_keeps_neither_what_it_was_given_nor_what_it_gave() -> None:
    async def main(stage: Stage) -> None:
        image = Image()
        kept = weakref.ref(image)
        await stage.run(lambda given: given, image)
        del image
        await stage.run(lambda: None)
        gc.collect()
        assert kept() is None

    on_a_loop(main)
