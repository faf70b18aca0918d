"""What is old enough goes: log entries, batches and chunks from the database, and objects from the bucket; results stay."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from anomaly.db.maintenance import SweepResult
    from anomaly.models.objects import StoredObject

log = logging.getLogger(__name__)

FOLDERS = ("images", "answers", "heatmaps", "runs")


class Rows(Protocol):
    """What retention asks of the records database."""

    def delete_log_entries(self, *, days: int, dry_run: bool) -> SweepResult: ...
    def delete_chunks(self, *, days: int, dry_run: bool) -> SweepResult: ...
    def delete_batches(self, *, days: int, dry_run: bool) -> SweepResult: ...
    def unreferenced(self, objects: Sequence[StoredObject], *, days: int | None) -> list[StoredObject]: ...


class Bucket(Protocol):
    """Its objects a page at a time, and how some of them go."""

    def pages(self, folder: str) -> Iterator[list[StoredObject]]: ...
    def delete(self, keys: Sequence[str]) -> None: ...


def sweep_rows(rows: Rows, *, days: int, dry_run: bool) -> dict[str, Any]:
    """Delete log entries, then the chunks and batches that ended more than *days* ago, or only count them; 0 keeps all."""
    if not days:
        return {"kept": "for ever"}
    # Batches come last: one stays as long as a chunk or a log entry speaks of it.
    swept = {
        "log_entries": rows.delete_log_entries(days=days, dry_run=dry_run),
        "chunks": rows.delete_chunks(days=days, dry_run=dry_run),
        "batches": rows.delete_batches(days=days, dry_run=dry_run),
    }
    return {name: {"found": each.found, "deleted": each.deleted} for name, each in swept.items()}


def sweep_bucket(bucket: Bucket, rows: Rows, *, days: int, now: datetime, dry_run: bool) -> dict[str, Any]:
    """Delete the objects that were written more than *days* ago and that no result of these days names; 0 keeps all.

    So an object lives for as long as somebody uses it: an answer that is used again is kept, with its image and heat map.
    """
    if not days:
        return {"kept": "for ever"}
    return {folder: _sweep_folder(bucket, rows, folder, days=days, now=now, dry_run=dry_run) for folder in FOLDERS}


def _sweep_folder(bucket: Bucket, rows: Rows, folder: str, *, days: int, now: datetime, dry_run: bool) -> dict[str, int]:
    found = size_bytes = deleted = 0
    for page in bucket.pages(folder):
        old = [each for each in page if each.written_at < now - timedelta(days=days)]
        gone = rows.unreferenced([each for each in old if each.image_sha256], days=days) + [each for each in old if each.belongs_to_run]
        found, size_bytes = found + len(gone), size_bytes + sum(each.size_bytes for each in gone)
        if gone and not dry_run:
            bucket.delete([each.key for each in gone])
            deleted += len(gone)
            log.info("objects deleted folder=%s page=%d in_all=%d", folder, len(gone), deleted)
    return {"found": found, "bytes": size_bytes, "deleted": deleted}
