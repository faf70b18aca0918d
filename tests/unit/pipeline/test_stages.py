from __future__ import annotations

import threading
import time
from typing import Any

from anomaly.pipeline.stages import Loop, Step

BOUND_S = 10


def run_until_idle(loop: Loop) -> None:
    ends_at = time.monotonic() + BOUND_S
    while loop.busy:
        assert time.monotonic() < ends_at
        loop.run_once()


def test_a_step_runs_on_its_stages_thread_and_goes_on_on_the_loops() -> None:
    loop, seen = Loop(clock=time.monotonic), []
    stage = loop.stage("far", workers=1)
    step = Step(
        "s", stage, lambda n: (n, threading.current_thread().name), lambda _n, got: seen.append((got, threading.current_thread())), print
    )
    stage.submit(step, 3)
    run_until_idle(loop)
    assert seen == [((3, "far-1"), threading.current_thread())]


def test_an_error_of_whatever_kind_reaches_the_loop() -> None:
    loop, seen = Loop(clock=time.monotonic), []

    def fail(_: Any) -> None:
        raise KeyboardInterrupt

    stage = loop.stage("far", workers=1)
    stage.submit(Step("s", stage, fail, print, lambda subject, error: seen.append((subject, type(error)))), "subject")
    run_until_idle(loop)
    assert seen == [("subject", KeyboardInterrupt)]


def test_a_stage_works_as_many_steps_at_once_as_it_has_workers_and_no_more() -> None:
    loop = Loop(clock=time.monotonic)
    stage = loop.stage("far", workers=3)
    meet, at_once, most = threading.Barrier(3), 0, 0
    lock = threading.Lock()

    def work(_: Any) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        meet.wait(BOUND_S)
        with lock:
            at_once -= 1

    step = Step("s", stage, work, lambda _s, _r: None, lambda _s, error: (_ for _ in ()).throw(error))
    for number in range(12):
        stage.submit(step, number)
    run_until_idle(loop)
    assert most == 3


def test_what_is_called_later_comes_in_the_order_of_its_time() -> None:
    now = 0.0
    loop, seen = Loop(clock=lambda: now), []
    loop.call_later(5, lambda: seen.append("late"))
    loop.call_later(1, lambda: seen.append("soon"))
    now = 0.5
    loop.run_once(wait_s=0)
    assert seen == []
    now = 9.0
    loop.run_once(wait_s=0)
    assert seen == ["soon", "late"]
    assert not loop.busy
