"""Add rows as records, a batch at a time."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anomaly.errors import Misconfigured
from anomaly.intake.rows import NewRecord, RowInvalid, key_of, new_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from anomaly.db.client import Database

log = logging.getLogger(__name__)

BATCH = 1000
"""Rows that one statement adds, which keeps transactions short."""
FAULTS_NAMED = 20
SOURCE = "enqueue"


@dataclass(slots=True)
class Added:
    """Counts of rows that were read."""

    read: int = 0
    new: int = 0
    invalid: int = 0
    faults: list[str] = field(default_factory=list)
    """The first invalid rows by place, each with its fault."""

    def counts(self) -> dict[str, int]:
        """Return the counts; the known rows are those that were records already."""
        return {"read": self.read, "new": self.new, "known": self.read - self.new - self.invalid, "invalid": self.invalid}

    def reject(self, place: str, fault: RowInvalid) -> None:
        self.invalid += 1
        if len(self.faults) < FAULTS_NAMED:
            self.faults.append(f"{place}: {fault}")


def add(database: Database, rows: Iterable[tuple[str, object]], *, source: str = SOURCE, strict: bool = False) -> Added:
    """Add the rows that are not records of *source* yet. Each row comes with its place, for messages.

    Rows that are invalid are skipped and named in a warning; those that are known are skipped without a check, unless *strict* is set.

    Raises:
        Misconfigured: a row is invalid, and *strict* is set. Nothing was added.
    """
    added = Added()
    records = _checked(rows if strict else _unknown(iter(rows), added, database, source), added)
    if strict:
        records = iter(list(records))
        if added.invalid:
            raise Misconfigured(f"{added.invalid} of {added.read} rows are invalid, and nothing was added: {'; '.join(added.faults)}")
    while batch := list(itertools.islice(records, BATCH)):
        columns = {f"{name}s": [getattr(each, name) for each in batch] for name in ("key", "image_url", "captured_at")}
        params = {**columns, "attributes": [each.attributes for each in batch], "source": source}
        added.new += database.fetch_all("enqueue_records", params)[0]["added"]
    if added.invalid:
        log.warning("rows skipped source=%s rows=%d %s", source, added.invalid, "; ".join(added.faults))
    log.info("rows enqueued source=%s %s", source, added.counts())
    return added


def _unknown(rows: Iterator[tuple[str, object]], added: Added, database: Database, source: str) -> Iterator[tuple[str, object]]:
    """Yield the rows that are not known. To check the address of a row takes many times as long as to look up its key."""
    while batch := list(itertools.islice(rows, BATCH)):
        keys = [key_of(row) for _, row in batch]
        found = database.fetch_all("known_source_keys", {"source": source, "keys": [key for key in keys if key is not None]})
        known = {row["key"] for row in found}
        for placed, key in zip(batch, keys, strict=True):
            if key in known:
                added.read += 1
            else:
                yield placed


def _checked(rows: Iterable[tuple[str, object]], added: Added) -> Iterator[NewRecord]:
    now = datetime.now(UTC)
    for place, row in rows:
        added.read += 1
        try:
            if isinstance(row, RowInvalid):
                raise row
            yield new_record(row, now=now)
        except RowInvalid as exc:
            added.reject(place, exc)
