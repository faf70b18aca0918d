"""Deletes what is older than the retention settings: log entries, batches, chunks and objects of the bucket. Results stay."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from anomaly.archive.bucket import Archive
    from anomaly.db.maintenance import MaintenanceStore

log = logging.getLogger(__name__)

FOLDERS = ("images", "answers", "heatmaps", "unreadable", "runs")


def sweep_rows(store: MaintenanceStore, *, days: int, dry_run: bool) -> dict[str, Any]:
    """Delete log entries, and the chunks and batches that ended more than *days* ago, or only count them. 0 keeps all."""
    if not days:
        return {"kept": "for ever"}
    # Batches come last: a batch stays as long as a chunk or a log entry refers to it.
    swept = {
        "log_entries": store.delete_log_entries(days=days, dry_run=dry_run),
        "chunks": store.delete_chunks(days=days, dry_run=dry_run),
        "batches": store.delete_batches(days=days, dry_run=dry_run),
    }
    return {name: {"found": result.found, "deleted": result.deleted} for name, result in swept.items()}


def sweep_bucket(bucket: Archive, store: MaintenanceStore, *, days: int, now: datetime, dry_run: bool) -> dict[str, Any]:
    """Delete objects written more than *days* ago that no result of the last *days* refers to, or only count them. 0 keeps all.

    An answer that is still being used is kept, with its image and heat map.
    """
    if not days:
        return {"kept": "for ever"}
    return {folder: _sweep_folder(bucket, store, folder, days=days, now=now, dry_run=dry_run) for folder in FOLDERS}


def _sweep_folder(bucket: Archive, store: MaintenanceStore, folder: str, *, days: int, now: datetime, dry_run: bool) -> dict[str, int]:
    found = size_bytes = deleted = 0
    for page in bucket.pages(folder):
        old = [stored for stored in page if stored.written_at < now - timedelta(days=days)]
        unused = store.unreferenced([stored for stored in old if stored.image_sha256], days=days)
        unused += [stored for stored in old if stored.belongs_to_run]
        found, size_bytes = found + len(unused), size_bytes + sum(stored.size_bytes for stored in unused)
        if unused and not dry_run:
            bucket.delete([stored.key for stored in unused])
            deleted += len(unused)
            log.info("objects deleted folder=%s page=%d total=%d", folder, len(unused), deleted)
    return {"found": found, "bytes": size_bytes, "deleted": deleted}
