"""What upkeep asks of the records database: to delete what is old, which keys of the bucket results name, and how the tables do."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from anomaly.db.client import Database
    from anomaly.models.objects import StoredObject

log = logging.getLogger(__name__)

PAGE = 1000
"""Rows that one statement looks at, so that none is long."""
PROGRESS = 100
"""Pages between two lines in the log that say how far it is."""
DEAD_MIN = 1000
DEAD_SHARE = 0.2
"""Autovacuum's own measure: with fewer dead rows than that it does not come either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What was old enough to go, and what of it went."""

    found: int = 0
    deleted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencedKeys:
    """Keys that results name, all for one image and one configuration of a detector."""

    image_sha256: str
    config: str
    image_key: str
    answer_key: str
    heatmap_key: str | None
    record_id: int
    """One of the records whose results name them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRecord:
    """What has waited for the longest."""

    record_id: int
    since: datetime
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The database server."""

    version: str
    connections: int
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStats:
    """What Postgres has counted in one table; the counts are its estimates."""

    name: str
    live: int
    dead: int
    size_bytes: int
    vacuumed_at: datetime | None
    analysed_at: datetime | None

    @property
    def hint(self) -> str:
        """What is wrong and what to run, in one sentence; empty where nothing is."""
        rows = self.live + self.dead
        if self.dead >= DEAD_MIN and self.dead > DEAD_SHARE * rows:
            share = f"{self.dead / rows:.0%} of its rows are dead"
            if self.vacuumed_at is None:
                return f"{share} and it was never vacuumed: run vacuum (analyze) {self.name}, and see whether autovacuum is on"
            return f"{share}: run vacuum (analyze) {self.name}, and see whether an old transaction keeps them"
        if rows >= DEAD_MIN and self.analysed_at is None:
            return f"it was never analysed, so statements are planned blindly: run analyze {self.name}"
        return ""


class MaintenanceStore:
    """Each method raises DatabaseUnavailable where there was no answer, and Misconfigured where the schema does not fit."""

    def __init__(self, database: Database, *, page: int = PAGE) -> None:
        self._database = database
        self._page = page

    # ── what is old

    def delete_log_entries(self, *, days: int, dry_run: bool) -> SweepResult:
        """Delete log entries of more than so many days ago, or only count them; those that a claim or a report needs stay."""
        return self._sweep("delete_log_entries", {"after_id": 0}, days=days, dry_run=dry_run)

    def delete_chunks(self, *, days: int, dry_run: bool) -> SweepResult:
        """Delete the chunks of batches that ended more than so many days ago, or only count them."""
        return self._sweep("delete_chunks", {"after_batch": UUID(int=0), "after_chunk": -1}, days=days, dry_run=dry_run)

    def delete_batches(self, *, days: int, dry_run: bool) -> SweepResult:
        """Delete the batches that ended more than so many days ago and of which nothing else is left, or only count them."""
        return self._sweep("delete_batches", {"after_batch": UUID(int=0)}, days=days, dry_run=dry_run)

    def _sweep(self, statement: str, cursor: dict[str, Any], **params: Any) -> SweepResult:
        """Send a statement for page after page; it says itself where the next one begins, or that there is none."""
        swept = SweepResult()
        for pages in itertools.count(1):
            row = self._database.fetch_all(statement, {**params, **cursor, "size": self._page})[0]
            swept = SweepResult(found=swept.found + row["found"], deleted=swept.deleted + row["deleted"])
            cursor = {name: row[name] for name in cursor}
            if None in cursor.values():
                break
            if pages % PROGRESS == 0:
                log.info("sweeping statement=%s pages=%d found=%d deleted=%d", statement, pages, swept.found, swept.deleted)
        log.info("swept statement=%s found=%d deleted=%d dry_run=%s", statement, swept.found, swept.deleted, params["dry_run"])
        return swept

    # ── what results name

    def unreferenced(self, objects: Sequence[StoredObject], *, days: int | None) -> list[StoredObject]:
        """Those of these objects that no result names; with *days*, no result of these days."""
        keys, sha256s = [each.key for each in objects], [each.image_sha256 for each in objects]
        rows = self._database.fetch_all("unreferenced_keys", {"keys": keys, "image_sha256s": sha256s, "days": days}) if keys else []
        found = {row["key"] for row in rows}
        return [each for each in objects if each.key in found]

    def referenced(self, *, days: int | None) -> Iterator[ReferencedKeys]:
        """The keys that results name, in the order of their images' SHA-256; only results of before now and, with *days*, of these."""
        before, after = self.server().now, ""
        while rows := self._database.fetch_all(
            "referenced_keys", {"after_sha256": after, "before": before, "days": days, "size": self._page}
        ):
            yield from (ReferencedKeys(**row) for row in rows if row["config"] is not None)
            after = rows[-1]["image_sha256"]

    # ── how it does

    def oldest_due(self) -> DueRecord | None:
        """The record that was captured first of those that wait to be claimed."""
        row = self._database.fetch_one("oldest_due", {})
        return DueRecord(**row) if row else None

    def tables(self) -> list[TableStats]:
        """Our tables, the largest first."""
        return [TableStats(**row) for row in self._database.fetch_all("table_health", {})]

    def server(self) -> ServerInfo:
        return ServerInfo(**self._database.fetch_all("server_info", {})[0])
