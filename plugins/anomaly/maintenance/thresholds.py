"""Lets the flags of earlier verdicts follow the thresholds that people have stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.db.source_store import with_write_back
from anomaly.db.thresholds import BATCH, ThresholdStore
from anomaly.maintenance.sources import sources

if TYPE_CHECKING:
    from anomaly.db.client import Database
    from anomaly.settings import Settings


def threshold_store(settings: Settings, database: Database, *, batch: int = BATCH) -> ThresholdStore:
    """Return the store of thresholds that also writes to the rows of the configured sources.

    Raises:
        Misconfigured: a source cannot be used as it is configured.
    """
    return ThresholdStore(with_write_back(database, sources(settings)), batch=batch)


def follow_thresholds(settings: Settings, database: Database, *, dry_run: bool) -> dict[str, int]:
    """Read all flags by the stored thresholds, or only count those that have to follow, and return the counts.

    Raises:
        Misconfigured: a source cannot be used as it is configured.
    """
    store = threshold_store(settings, database)
    if dry_run:
        return {"left": store.left()}
    done = store.follow()
    return {"followed": done.followed, "changed": done.changed, "skipped": done.skipped, "left": store.left()}
