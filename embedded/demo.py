"""The demo's records: photos of solar cells that the reference detector has never seen, with what experts said about them."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reference_detector.dataset import Cell

WEEK_S = 7 * 86_400
STEP_S = 7_919
"""Prime to a week, so that the ages spread evenly over it whatever the number of records."""


@functools.cache
def statement(name: str) -> LiteralString:
    text: Any = (Path(__file__).parent / "sql" / f"{name}.sql").read_text()  # a file of this package, and so as literal as its code
    found: LiteralString = text
    return found


def row(connection: psycopg.Connection[Any], name: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The one row of a statement."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(statement(name), params).fetchone()
    return found or {}


def enqueue(dsn: str, cells: Sequence[Cell], *, base_url: str, waiting: int, images: Path) -> int:
    """Enqueue as many records as it takes that *waiting* of them wait for a verdict; return how many were added.

    They go on in the order of *cells* where the last call ended, and begin anew after the last cell. Records that wait already
    find their images at *base_url* afterwards.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute("lock table anomaly.records in share row exclusive mode")
        connection.execute(statement("move_images"), {"base_url": base_url})
        before = row(connection, "demo_backlog")
        numbers = range(before["enqueued"], before["enqueued"] + max(0, waiting - before["waiting"]))
        with connection.cursor() as cursor:
            cursor.executemany(statement("enqueue"), _records(numbers, cells, base_url, images))
        return len(numbers)


def now(dsn: str) -> datetime:
    """The time by the database's clock."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute("select clock_timestamp()").fetchone()
    return datetime.now(UTC) if found is None else found[0]


def _records(numbers: range, cells: Sequence[Cell], base_url: str, images: Path) -> Iterator[dict[str, Any]]:
    for number in numbers:
        cell = cells[number % len(cells)]
        path = cell.path.relative_to(images).as_posix()
        attributes = {"demo": path, "type": "mono", "defect_probability": cell.probability}
        age_s = 60 + number * STEP_S % WEEK_S
        yield {"image_url": f"{base_url}/{path}", "age_s": age_s, "attributes": Jsonb(attributes)}
