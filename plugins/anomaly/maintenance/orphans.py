"""Compares bucket and database, both ways and a page at a time: objects that no result names, and results whose objects are gone."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from anomaly.db.maintenance import ReferencedKeys
    from anomaly.models.objects import StoredObject

log = logging.getLogger(__name__)

FOLDERS = ("images", "answers", "heatmaps")
SAMPLE = 10
"""Keys of a kind that are told; the others are only counted."""
PROGRESS = 100
"""Pages, or thousands of images, between two lines in the log that say how far it is."""


class Rows(Protocol):
    """What is asked of the records database."""

    def unreferenced(self, objects: Sequence[StoredObject], *, days: int | None) -> list[StoredObject]: ...
    def referenced(self, *, days: int | None) -> Iterator[ReferencedKeys]: ...


class Bucket(Protocol):
    """Its objects a page at a time, in the order of their keys, and how some of them go."""

    @property
    def prefix(self) -> str: ...
    def pages(self, folder: str) -> Iterator[list[StoredObject]]: ...
    def delete(self, keys: Sequence[str]) -> None: ...


@dataclass(slots=True, kw_only=True)
class Orphans:
    """Objects that no result names."""

    objects: int = 0
    """That were looked at."""
    too_young: int = 0
    """Not looked up, for what is in flight is named by nothing yet."""
    foreign: int = 0
    """With a key that is none of ours; never deleted."""
    found: int = 0
    bytes: int = 0
    deleted: int = 0
    sample: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Missing:
    """Keys that results name and under which there is no object."""

    keys: int = 0
    """That were looked for."""
    elsewhere: int = 0
    """Of another prefix, and so not looked for."""
    found: int = 0
    sample: list[str] = field(default_factory=list)


def unreferenced_objects(bucket: Bucket, rows: Rows, *, before: datetime, delete: bool) -> Orphans:
    """Find the objects written *before* that time that no result names, and delete them if asked to."""
    all_told = Orphans()
    for folder in FOLDERS:
        for number, page in enumerate(bucket.pages(folder), 1):
            _look_up(bucket, rows, page, all_told, before=before, delete=delete)
            if number % PROGRESS == 0:
                log.info("looking for orphans folder=%s objects=%d found=%d", folder, all_told.objects, all_told.found)
    return all_told


def _look_up(bucket: Bucket, rows: Rows, page: list[StoredObject], all_told: Orphans, *, before: datetime, delete: bool) -> None:
    ours = [each for each in page if each.image_sha256]
    settled = [each for each in ours if each.written_at < before]
    orphans = rows.unreferenced(settled, days=None)
    keys = [each.key for each in orphans]
    all_told.objects += len(page)
    all_told.foreign += len(page) - len(ours)
    all_told.too_young += len(ours) - len(settled)
    all_told.found += len(orphans)
    all_told.bytes += sum(each.size_bytes for each in orphans)
    all_told.sample += keys[: SAMPLE - len(all_told.sample)]
    if keys and delete:
        bucket.delete(keys)
        all_told.deleted += len(keys)
        log.info("orphans deleted page=%d in_all=%d", len(keys), all_told.deleted)


def missing_objects(bucket: Bucket, rows: Rows, *, days: int | None) -> Missing:
    """Find the keys that results name in vain; with *days*, only results of these days, for older ones may have lost theirs.

    Results and listings come in the order of the images' SHA-256, so that one pass over each is enough, and a page of each is all
    that is held.
    """
    all_told, shelves = Missing(), _Shelves(bucket)
    for number, named in enumerate(rows.referenced(days=days), 1):
        wanted = {
            "images/sha256": named.image_key,
            f"answers/{named.config}": named.answer_key,
            f"heatmaps/{named.config}": named.heatmap_key,
        }
        for folder, key in wanted.items():
            if key is None:
                continue
            if not key.startswith(f"{bucket.prefix}{folder}/"):
                all_told.elsewhere += 1
                continue
            all_told.keys += 1
            if not shelves.holds(folder, named.image_sha256, key):
                all_told.found += 1
                all_told.sample += [f"record {named.record_id}: {key}"][: SAMPLE - len(all_told.sample)]
        if number % (PROGRESS * 1000) == 0:
            log.info("looking for missing objects keys=%d found=%d", all_told.keys, all_told.found)
    return all_told


class _Shelves:
    """The listings, one for each folder, read on as far as they are asked about."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._shelves: dict[str, _Shelf] = {}

    def holds(self, folder: str, image_sha256: str, key: str) -> bool:
        if folder not in self._shelves:
            objects = itertools.chain.from_iterable(self._bucket.pages(folder))
            self._shelves[folder] = _Shelf(objects)
        return key in self._shelves[folder].of(image_sha256)


class _Shelf:
    """One folder's keys, by the image to which they belong."""

    def __init__(self, objects: Iterator[StoredObject]) -> None:
        self._groups = itertools.groupby(objects, key=lambda each: each.image_sha256 or "")
        self._sha256 = ""
        self._keys: set[str] = set()

    def of(self, image_sha256: str) -> set[str]:
        """The keys of an image; of one call to the next the SHA-256 never gets smaller."""
        while self._sha256 < image_sha256:
            self._sha256, group = next(self._groups, ("~", iter(())))
            self._keys = {each.key for each in group}
        return self._keys if self._sha256 == image_sha256 else set()
