"""The time left is right from the first chunk on: the wait for the first record is no part of the rate."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from embedded.job import Rate
from embedded.progress import Progress


def rates(*polls: tuple[float, int]) -> list[float | None]:
    rate = Rate()
    return [rate.add(at, ended) for at, ended in polls]


def test_a_slow_begin_is_no_part_of_the_rate() -> None:
    waiting = [(n / 2, 0) for n in range(60)]
    working = [(30 + n / 2, 1 + n * 5) for n in range(8)]
    found = rates(*waiting, *working)
    assert found[:64] == [None] * 64
    assert found[64:] == [pytest.approx(10)] * 4


def test_the_rate_follows_the_last_polls() -> None:
    fast = [(n / 2, 1 + n * 10) for n in range(40)]
    slow = [(20 + n / 2, 391 + n) for n in range(40)]
    assert rates(*fast, *slow)[-1] == pytest.approx(2)


def test_nothing_ended_in_a_while_is_a_rate_of_zero() -> None:
    assert rates((0, 5), (3, 5))[-1] == 0


@pytest.mark.parametrize(
    ("rate", "line"),
    [
        (None, "records: 3 of 600 done"),
        (0.0, "records: 3 of 600 done, 0.0 records/s"),
        (9.95, "records: 3 of 600 done, 9.9 records/s, about 60 s left"),
    ],
)
def test_the_line_names_the_time_left_only_with_a_rate(rate: float | None, line: str) -> None:
    out = io.StringIO()
    Progress(Console(file=out, highlight=False, soft_wrap=True)).records(3, 597, rate=rate)
    assert out.getvalue() == f"{line}\n"


def test_a_stop_says_what_it_waits_for() -> None:
    out = io.StringIO()
    Progress(Console(file=out, highlight=False, soft_wrap=True)).stopping(12, 14.6)
    assert out.getvalue() == "stopping: 12 records in work have 15 s to get their answers committed; the rest stays due\n"
