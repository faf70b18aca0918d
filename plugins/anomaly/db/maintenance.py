"""Statements of maintenance: delete old rows, compare keys of the bucket with results, and inspect tables and server."""

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
"""Rows that one statement examines, which keeps transactions short."""
PROGRESS = 100
"""Pages between two progress lines in the log."""
SUSPECTS_MAX = 1000
DEAD_MIN = 1000
DEAD_SHARE = 0.2
"""Autovacuum's own default: it does not start with a smaller share of dead rows either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """Counts of rows that are old enough to delete, and of those that were deleted."""

    found: int = 0
    deleted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencedKeys:
    """Keys that results refer to, for one image and one configuration of a detector."""

    image_sha256: str
    config: str
    image_key: str
    answer_key: str
    heatmap_key: str | None
    record_id: int
    """One of the records with such a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueRecord:
    """The due record that was captured first."""

    record_id: int
    since: datetime
    age_s: float
    image_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The database server."""

    version: str
    connections: int
    """Most connections that the login can have, without superuser privileges."""
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStats:
    """Postgres's statistics of a table. Its counts are estimates."""

    name: str
    live: int
    dead: int
    size_bytes: int
    vacuumed_at: datetime | None
    analysed_at: datetime | None

    @property
    def hint(self) -> str:
        """One sentence that names a problem and its fix; empty if there is none."""
        rows = self.live + self.dead
        if self.dead >= DEAD_MIN and self.dead > DEAD_SHARE * rows:
            share = f"{self.dead / rows:.0%} of its rows are dead"
            if self.vacuumed_at is None:
                return f"{share} and it was never vacuumed: run vacuum (analyze) {self.name}, and check that autovacuum is on"
            return f"{share}: run vacuum (analyze) {self.name}, and look for an old transaction that keeps them"
        if rows >= DEAD_MIN and self.analysed_at is None:
            return f"it was never analyzed, so statements are planned without statistics: run analyze {self.name}"
        return ""


class MaintenanceStore:
    """Old rows, keys of the bucket, and statistics of tables.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database, *, page: int = PAGE) -> None:
        self._database = database
        self._page = page

    # ── old rows

    def delete_log_entries(self, *, days: int, dry_run: bool) -> SweepResult:
        """Delete log entries older than *days*, or only count them. Entries that a claim or a report needs stay."""
        return self._sweep("delete_log_entries", {"after_id": 0}, days=days, dry_run=dry_run)

    def delete_chunks(self, *, days: int, dry_run: bool) -> SweepResult:
        """Delete the chunks of batches that ended more than *days* ago, or only count them."""
        return self._sweep("delete_chunks", {"after_batch": UUID(int=0), "after_chunk": -1}, days=days, dry_run=dry_run)

    def delete_batches(self, *, days: int, dry_run: bool) -> SweepResult:
        """Delete the batches that ended more than *days* ago and have no chunk or log entry left, or only count them."""
        return self._sweep("delete_batches", {"after_batch": UUID(int=0)}, days=days, dry_run=dry_run)

    def _sweep(self, statement: str, cursor: dict[str, Any], **params: Any) -> SweepResult:
        """Run a statement page by page. Each row it returns holds the cursor of the next page, null after the last one."""
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

    # ── keys of the bucket

    def unreferenced(self, objects: Sequence[StoredObject], *, days: int | None) -> list[StoredObject]:
        """Return the objects that no result refers to; with *days*, no result of the last *days*."""
        keys, sha256s = [each.key for each in objects], [each.image_sha256 for each in objects]
        rows = self._database.fetch_all("unreferenced_keys", {"keys": keys, "image_sha256s": sha256s, "days": days}) if keys else []
        found = {row["key"] for row in rows}
        return [each for each in objects if each.key in found]

    def referenced(self, *, days: int | None) -> Iterator[ReferencedKeys]:
        """Yield the keys that results refer to, by the SHA-256 of the image; with *days*, only results of the last *days*.

        Results that are written after it began are left out.
        """
        before, after = self.server().now, ""
        while rows := self._database.fetch_all(
            "referenced_keys", {"after_sha256": after, "before": before, "days": days, "size": self._page}
        ):
            yield from (ReferencedKeys(**row) for row in rows if row["config"] is not None)
            after = rows[-1]["image_sha256"]

    # ── verdicts

    def suspect_verdicts(self) -> int:
        """Count verdicts that may belong to another image, among the first quick ones: at most `SUSPECTS_MAX`."""
        return int(self._database.fetch_all("suspect_verdicts", {"size": SUSPECTS_MAX})[0]["verdicts"])

    def other_configs(self, detector: str, configs: Sequence[str]) -> int:
        """Count the other configurations whose verdicts of the last 30 days have this detector's name."""
        return int(self._database.fetch_all("count_other_configs", {"detector": detector, "configs": list(configs)})[0]["configs"])

    # ── tables and server

    def oldest_due(self) -> DueRecord | None:
        """Return the due record that was captured first, or None if nothing is due."""
        row = self._database.fetch_one("oldest_due", {})
        return DueRecord(**row) if row else None

    def tables(self) -> list[TableStats]:
        """Return the project's tables, the largest first."""
        return [TableStats(**row) for row in self._database.fetch_all("table_health", {})]

    def server(self) -> ServerInfo:
        return ServerInfo(**self._database.fetch_all("server_info", {})[0])
