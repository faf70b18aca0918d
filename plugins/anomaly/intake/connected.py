"""Add rows to the records database of Airflow's connection."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from anomaly import connections
from anomaly.intake.adding import add
from anomaly.intake.readers import read_bucket
from anomaly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def enqueue(rows: Iterable[object] | str, *, source: str, strict: bool) -> dict[str, int]:
    """Add rows, or the images of a bucket, as `anomaly.enqueue` describes."""
    settings = Settings.from_environ(os.environ)
    placed = bucket_rows(rows, settings) if isinstance(rows, str) else ((f"row {number}", row) for number, row in enumerate(rows, 1))
    with connections.database(settings) as database:
        return add(database, placed, source=source, strict=strict).counts()


def bucket_rows(address: str, settings: Settings) -> Iterator[tuple[str, object]]:
    """Yield the images below `s3://bucket/prefix`."""
    return read_bucket(address, connections.image_objects(settings), connections.image_rules())
