"""Interrupting a task's work on SIGTERM and SIGINT."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.tasks.signals import handle_termination

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def former() -> Iterator[list[int]]:
    """The signals that the handler of before was called with, as Airflow's own would be."""
    calls: list[int] = []

    def handler(number: int, _frame: Any) -> None:
        calls.append(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    yield calls
    for number, restored in before.items():
        signal.signal(number, restored)


@pytest.mark.parametrize(("number", "passed_on"), [(signal.SIGTERM, [signal.SIGTERM]), (signal.SIGINT, [])])
def test_the_work_is_interrupted_and_only_sigterm_is_passed_on(former: list[int], number: int, passed_on: list[int]) -> None:
    interrupted: list[bool] = []
    with handle_termination() as termination:
        termination.subscribe(lambda: interrupted.append(True))
        signal.raise_signal(number)
    assert (interrupted, former) == ([True], passed_on)


def test_a_signal_that_came_before_the_work_interrupts_it_at_once(former: list[int]) -> None:
    interrupted: list[bool] = []
    with handle_termination() as termination:
        signal.raise_signal(signal.SIGTERM)
        termination.subscribe(lambda: interrupted.append(True))
    assert (interrupted, former) == ([True], [signal.SIGTERM])


def test_the_former_handlers_are_back_afterwards(former: list[int]) -> None:
    with handle_termination():
        pass
    signal.raise_signal(signal.SIGINT)
    assert former == [signal.SIGINT]


def test_another_thread_keeps_the_handlers_as_they_are(former: list[int]) -> None:
    entered: list[bool] = []

    def work() -> None:
        with handle_termination():
            entered.append(signal.getsignal(signal.SIGTERM) is handler)

    handler = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (entered, former) == ([True], [])
