"""Records as a Parquet file, with a type for each column."""

from __future__ import annotations

import io
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any

from anomaly.export.tables import COLUMNS, as_json

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from anomaly.export.tables import Row

GROUP = 5000
"""Records of a row group, which memory holds."""
NUMBERS = {
    "record_id": "int64",
    "attempts": "int32",
    "image_width_px": "int32",
    "image_height_px": "int32",
    "score": "float64",
    "threshold": "float64",
    "cost": "float64",
}
FLAGS = ("is_anomaly", "reused", "needs_review")
TIMES = ("captured_at", "processed_at", "scored_at", "reviewed_at")


def parquet_blocks(rows: Iterable[Row]) -> Generator[bytes]:
    """Yield a Parquet file. Attributes and regions are JSON; other columns without a type of their own are text."""
    import pyarrow as pa  # noqa: PLC0415  # installed only where somebody wants this format
    from pyarrow import parquet  # noqa: PLC0415

    types = {**{name: pa.type_for_alias(alias) for name, alias in NUMBERS.items()}, **dict.fromkeys(FLAGS, pa.bool_())}
    types |= dict.fromkeys(TIMES, pa.timestamp("us", tz="UTC"))
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    out, rows = io.BytesIO(), iter(rows)
    with parquet.ParquetWriter(pa.PythonFile(_Forward(out), mode="w"), schema) as writer:
        while group := list(islice(rows, GROUP)):
            writer.write_table(pa.Table.from_pylist([{name: _value(row[name]) for name in COLUMNS} for row in group], schema=schema))
            yield _taken(out)
    yield _taken(out)


class _Forward(io.RawIOBase):
    """A file that is only written forwards: it counts the bytes that `_taken` has removed."""

    def __init__(self, out: io.BytesIO) -> None:
        self._out = out
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written += (written := self._out.write(data))
        return written

    def tell(self) -> int:
        return self._written


def _taken(out: io.BytesIO) -> bytes:
    """Return what was written and empty the buffer."""
    found = out.getvalue()
    out.seek(0)
    out.truncate()
    return found


def _value(value: Any) -> Any:
    if isinstance(value, list | dict):
        return as_json(value)
    return float(value) if isinstance(value, Decimal) else value
