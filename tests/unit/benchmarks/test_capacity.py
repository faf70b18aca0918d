"""Tests of the arithmetic of `docs/scale.md`."""

from __future__ import annotations

import pytest

from benchmarks import capacity
from benchmarks.table_stats import Growth, Table


def table(name: str, *, rows: float, size: float, updates: float = 0.0) -> Table:
    return Table(name=name, rows=rows, table_bytes=size, index_bytes=100, wal_bytes=500, updates=updates, hot=None, dead=0, vacuums=0)


GROWTH = Growth(
    [table("ai_results", rows=1, size=900), table("records", rows=0, size=400, updates=3)], wal_bytes=2000, full_page_bytes=1000
)


@pytest.mark.parametrize(("day", "slots", "tasks"), [(1_000_000, 3, 1), (10_000_000, 24, 1), (100_000_000, 232, 8)])
def test_slots_are_rate_times_latency_and_tasks_are_slots_by_the_slots_of_one(day: int, slots: int, tasks: int) -> None:
    assert (capacity.slots(day), capacity.tasks(day)) == (slots, tasks)


def test_a_day_costs_the_cost_of_a_record_times_its_records() -> None:
    lines = capacity.table(GROWTH, chunk_size=250).splitlines()
    rows = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines}
    assert rows["records/s and commits/s, evenly over the day"] == ["11.6", "115.7", "1,157.4"]
    assert rows["WAL, GB"] == ["2.0", "20.0", "200.0"]
    assert rows["`ai_results`, GB"] == ["1.0", "10.0", "100.0"]
    assert rows["a year of them, GB"] == ["365", "3,650", "36,500"]
    assert rows["dead rows of `records`, millions"] == ["3", "30", "300"]
    assert rows["S3: PUT requests, millions"] == ["2", "20", "200"]
    assert rows["their price, $"] == ["10", "100", "1,000"]
    assert "`records`, GB" not in rows
