"""Tables of records: CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

Row = dict[str, Any]

COLUMNS = (
    *("record_id", "source", "source_key", "image_url", "captured_at", "status", "attributes"),
    *("attempts", "last_error_code", "last_error", "processed_at"),
    *("scored_at", "detector", "score", "threshold", "is_anomaly", "label", "reason", "regions", "regions_unit"),
    *("reused", "cost", "run_id", "image_key", "image_width_px", "image_height_px", "answer_key", "heatmap_key"),
    *("needs_review", "review", "reviewed_by", "reviewed_at"),
)
BLOCK_CHARS = 64 * 1024
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a text that a spreadsheet would take for a formula."""


def csv_blocks(rows: Iterable[Row]) -> Generator[bytes]:
    """Yield a CSV file. An apostrophe precedes text that a spreadsheet would run as a formula; numbers stay as they are."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in COLUMNS])
        if out.tell() >= BLOCK_CHARS:
            yield out.getvalue().encode()
            out.seek(0)
            out.truncate()
    yield out.getvalue().encode()


def json_line_blocks(rows: Iterable[Row]) -> Generator[bytes]:
    """Yield one JSON document a line, with every value as it is stored."""
    for row in rows:
        yield f"{as_json({name: row[name] for name in COLUMNS})}\n".encode()


def as_json(document: object) -> str:
    """Return a document in one line of JSON; times are in ISO 8601."""
    return json.dumps(document, default=in_json)


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def in_json(value: object) -> object:
    """Return a value that JSON lacks as one that it has, for `json.dumps`."""
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)
