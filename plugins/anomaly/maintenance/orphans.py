"""Compares bucket and database, a page at a time: objects that no result refers to, and results whose objects are missing."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from anomaly.archive.bucket import Archive
    from anomaly.db.maintenance import MaintenanceStore
    from anomaly.models.objects import StoredObject

log = logging.getLogger(__name__)

FOLDERS = ("images", "answers", "heatmaps")
"""Unreadable answers are left out: no result refers to them, and retention deletes them."""
SAMPLE = 10
"""Most keys of a kind that are reported. The others are only counted."""
PROGRESS = 100
"""Pages, or thousands of images, between two progress lines in the log."""


@dataclass(slots=True, kw_only=True)
class Orphans:
    """Counts of objects that no result refers to."""

    objects: int = 0
    """Objects in the listings."""
    too_young: int = 0
    """Objects that were not looked up, since records in progress may come to refer to them."""
    foreign: int = 0
    """Objects whose key has none of the project's forms. They are never deleted."""
    found: int = 0
    bytes: int = 0
    deleted: int = 0
    sample: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Missing:
    """Counts of keys that results refer to and that have no object."""

    keys: int = 0
    """Keys that were looked up."""
    elsewhere: int = 0
    """Keys with another prefix, which were not looked up."""
    found: int = 0
    sample: list[str] = field(default_factory=list)


def unreferenced_objects(bucket: Archive, store: MaintenanceStore, *, before: datetime, delete: bool) -> Orphans:
    """Find the objects written *before* a time that no result refers to, and delete them if *delete* is true."""
    totals = Orphans()
    for folder in FOLDERS:
        for number, page in enumerate(bucket.pages(folder), 1):
            _check_page(bucket, store, page, totals, before=before, delete=delete)
            if number % PROGRESS == 0:
                log.info("looking for orphans folder=%s objects=%d found=%d", folder, totals.objects, totals.found)
    return totals


def _check_page(
    bucket: Archive, store: MaintenanceStore, page: list[StoredObject], totals: Orphans, *, before: datetime, delete: bool
) -> None:
    known = [stored for stored in page if stored.image_sha256]
    settled = [stored for stored in known if stored.written_at < before]
    orphans = store.unreferenced(settled, days=None)
    keys = [stored.key for stored in orphans]
    totals.objects += len(page)
    totals.foreign += len(page) - len(known)
    totals.too_young += len(known) - len(settled)
    totals.found += len(orphans)
    totals.bytes += sum(stored.size_bytes for stored in orphans)
    totals.sample += keys[: SAMPLE - len(totals.sample)]
    if keys and delete:
        bucket.delete(keys)
        totals.deleted += len(keys)
        log.info("orphans deleted page=%d total=%d", len(keys), totals.deleted)


def missing_objects(bucket: Archive, store: MaintenanceStore, *, days: int | None) -> Missing:
    """Find the keys that results refer to and that have no object; with *days*, only of results of the last *days*.

    Results and listings are ordered by the SHA-256 of the image, so one pass over each is enough, and only a page of each is held.
    """
    totals = Missing()
    listings: dict[str, _Listing] = {}
    for number, refs in enumerate(store.referenced(days=days), 1):
        for kind, key in (("images", refs.image_key), ("answers", refs.answer_key), ("heatmaps", refs.heatmap_key)):
            if key is None:
                continue
            if not key.startswith(f"{bucket.prefix}{kind}/"):
                totals.elsewhere += 1
                continue
            folder = f"{kind}/{key.removeprefix(f'{bucket.prefix}{kind}/').partition('/')[0]}"
            if folder not in listings:
                listings[folder] = _Listing(itertools.chain.from_iterable(bucket.pages(folder)))
            totals.keys += 1
            if key not in listings[folder].keys_of(refs.image_sha256):
                totals.found += 1
                totals.sample += [f"record {refs.record_id}: {key}"][: SAMPLE - len(totals.sample)]
        if number % (PROGRESS * 1000) == 0:
            log.info("looking for missing objects keys=%d found=%d", totals.keys, totals.found)
    return totals


class _Listing:
    """The keys of one folder, grouped by the image to which they belong."""

    def __init__(self, objects: Iterator[StoredObject]) -> None:
        self._groups = itertools.groupby(objects, key=lambda stored: stored.image_sha256 or "")
        self._sha256 = ""
        self._keys: set[str] = set()

    def keys_of(self, image_sha256: str) -> set[str]:
        """Return the keys of an image. The SHA-256 must not decrease from one call to the next."""
        while self._sha256 < image_sha256:
            self._sha256, group = next(self._groups, ("~", iter(())))
            self._keys = {stored.key for stored in group}
        return self._keys if self._sha256 == image_sha256 else set()
