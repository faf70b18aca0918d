"""Reads the rows of a source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anomaly.db.errors import reading_source
from anomaly.db.source_sql import READING
from anomaly.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomaly.db.client import Database
    from anomaly.db.source_sql import SourceSql

ANOTHER_ROW = "another row has the same key"
PAGE = 5000
"""Rows that one statement reads or adds, which keeps transactions short."""
KEYS_NAMED = 5
"""Most keys of invalid rows that a warning names."""


@dataclass(slots=True)
class Refused:
    """Rows that cannot be records."""

    rows: int = 0
    faults: list[str] = field(default_factory=list)
    """Keys of the first of them, each with its fault."""

    def add(self, key: str, fault: str, *, rows: int = 1) -> None:
        self.rows += rows
        if len(self.faults) < KEYS_NAMED:
            self.faults.append(f"{key}: {fault}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePreview:
    """The rows that the next look at a source begins with."""

    rows: int | None
    """All rows of the source, up to a million; None if counting them takes too long."""
    looked_at: int
    new: int
    known: int
    refused: Refused
    example: Mapping[str, Any] | None
    """The first row that can be a record."""


class SourceRows:
    """The rows of one source.

    Every method raises Misconfigured if the condition or the view of the source fails, and DatabaseUnavailable without an answer.
    """

    def __init__(self, database: Database, sql: SourceSql, *, size: int = PAGE) -> None:
        self._source = sql.source
        self._database = database.including({name: sql.reading(name) for name in READING})
        self.size = size

    def page(self, *, after: tuple[str, str | None], until: str) -> list[dict[str, Any]]:
        """Return at most `size` rows in the order of their capture, up to *until*, that follow a time and key."""
        return self._read("page", {"after": after[0], "after_key": after[1], "until": until, "size": self.size})

    def refuse_incomplete(self, refused: Refused) -> None:
        """Add the rows that no page has, since they lack a time of capture or a key, to those that are *refused*."""
        rows = self._read("incomplete", {"size": KEYS_NAMED})
        for row in rows:
            refused.add(row["key"], row["fault"])
        refused.rows += rows[0]["rows"] - len(rows) if rows else 0

    def unsettled(self, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Read rows again, by key, and return the faults of those that share their key or have no lasting time of capture."""
        faults = {}
        for found in self._read("changed_rows", {"keys": list(rows)}):
            if found["rows"] > 1:
                faults[found["key"]] = ANOTHER_ROW
            elif found["captured_at"] != rows[found["key"]]["captured_at"]:
                faults[found["key"]] = "its time of capture is another one each time it is read"
        return faults

    def count(self) -> int | None:
        """Return how many rows there are, up to a million; None if counting them takes too long."""
        try:
            return int(self._read("count_rows", {})[0]["rows"])
        except DatabaseUnavailable:
            return None

    def _read(self, name: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        with reading_source(self._source.name, self._source.connection):
            return self._database.fetch_all(name, params)


def valid_rows(page: Sequence[dict[str, Any]], refused: Refused) -> dict[str, dict[str, Any]]:
    """Return the rows of a page that can be records, by their key, and add the others to those that are *refused*."""
    valid: dict[str, dict[str, Any]] = {}
    for row in page:
        if row["fault"]:
            refused.add(row["key"], row["fault"])
        elif row["key"] in valid:
            refused.add(row["key"], ANOTHER_ROW)
        else:
            valid[row["key"]] = row
    return valid
