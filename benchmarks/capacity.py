"""Extrapolates the measured costs of a record to a million records a day and more."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.table_stats import Growth

DAYS = (1_000_000, 10_000_000, 100_000_000)
SECONDS = 86_400
LATENCY_S = 0.2
SLOTS = 32
CONNECTIONS = 10
IMAGE_BYTES = 100_000
ANSWER_BYTES = 1_000
PUTS = 2
"""Writes a record: the image and the answer. A heat map would be a third."""
PUT_PRICE = 5.0
"""Dollars for a million puts. Assumed on 2026-11-24, not checked."""
MONTH_PRICE = 0.023
"""Dollars for a GB and a month. Assumed on 2026-11-24, not checked."""


def table(growth: Growth, *, chunk_size: int) -> str:
    """Return a table with a column for each number of records a day."""
    rows: list[tuple[str, Callable[[int], str]]] = [
        ("records/s and commits/s, evenly over the day", lambda day: f"{day / SECONDS:,.1f}"),
        (f"chunks of {chunk_size} claimed, opened and ended a minute", lambda day: f"{day / SECONDS * 60 / chunk_size:,.1f}"),
        (f"slots of a detector that takes {LATENCY_S:g} s", lambda day: f"{slots(day):,}"),
        (f"tasks of {SLOTS} slots", lambda day: f"{tasks(day):,}"),
        (f"database connections, {CONNECTIONS} a task", lambda day: f"{tasks(day) * CONNECTIONS:,}"),
        ("WAL, MB/s", lambda day: f"{growth.wal_bytes * day / SECONDS / 1e6:,.2f}"),
        ("WAL, GB", lambda day: f"{growth.wal_bytes * day / 1e9:,.1f}"),
        *((f"`{name}`, GB", _gb(size)) for name, size in grows(growth).items()),
        ("a year of them, GB", lambda day: f"{365 * sum(grows(growth).values()) * day / 1e9:,.0f}"),
        ("dead rows of `records`, millions", lambda day: f"{dead(growth) * day / 1e6:,.0f}"),
        ("S3: PUT requests, millions", lambda day: f"{PUTS * day / 1e6:,.0f}"),
        ("their price, $", lambda day: f"{PUTS * day / 1e6 * PUT_PRICE:,.0f}"),
        ("S3: new GB", lambda day: f"{day * (IMAGE_BYTES + ANSWER_BYTES) / 1e9:,.0f}"),
        ("what these cost each month from then on, $", lambda day: f"{day * (IMAGE_BYTES + ANSWER_BYTES) / 1e9 * MONTH_PRICE:,.2f}"),
    ]
    lines = [
        ("a day of", *(f"{day // 1_000_000} million" for day in DAYS)),
        ("---", *("---:" for _ in DAYS)),
        *((name, *map(of, DAYS)) for name, of in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def slots(day: int) -> int:
    """Return the requests in flight at once."""
    return ceil(day / SECONDS * LATENCY_S)


def tasks(day: int) -> int:
    return ceil(slots(day) / SLOTS)


def grows(growth: Growth) -> dict[str, float]:
    """Return the bytes a record of the tables that get a row for each record."""
    return {each.name: each.table_bytes + each.index_bytes for each in growth.tables if each.rows >= 1}


def dead(growth: Growth) -> float:
    """Return the dead rows a record: one for each update."""
    return sum(each.updates for each in growth.tables if each.name == "records")


def _gb(size: float) -> Callable[[int], str]:
    return lambda day: f"{size * day / 1e9:,.1f}"
