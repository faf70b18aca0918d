"""The formats of an export by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.export.tables import csv_blocks, json_line_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from anomaly.export.tables import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format in which records are written."""

    title: str
    about: str
    suffix: str
    media_type: str
    blocks: Callable[[Iterable[Row]], Generator[bytes]]


FORMATS = {
    "csv": Format(title="CSV", about="a table for spreadsheets", suffix="csv", media_type="text/csv; charset=utf-8", blocks=csv_blocks),
    "json": Format(
        title="JSON lines", about="a document for each record", suffix="jsonl", media_type="application/jsonl", blocks=json_line_blocks
    ),
}
