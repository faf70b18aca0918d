"""Checks the bucket with the requests of a run. Its test objects are deleted."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING

from anomaly import connections
from anomaly.maintenance.findings import Finding, clock, guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from anomaly.archive.bucket import Archive
    from anomaly.settings import Settings

FIRST, SECOND = b"first", b"second"


def check_bucket(settings: Settings, *, now: Callable[[], datetime]) -> Iterator[Finding]:
    """Check that objects can be written once, replaced, read, listed and deleted, and that the clock is right."""
    archive = connections.bucket(settings)
    began = now()
    at = archive.clock()
    ended = now()
    written: list[str] = []
    try:
        yield from _check_objects(archive, written)
    finally:
        if written:
            archive.delete(written)
    yield Finding("anomaly_s3: objects can be deleted")
    if at:
        yield clock("the bucket", at, began, ended)


def _check_objects(archive: Archive, written: list[str]) -> Iterator[Finding]:
    """Check writes and reads, and add the keys of what is written to *written*."""
    config, sha256 = f"doctor-{uuid.uuid4()}", hashlib.sha256().hexdigest()
    key = archive.put_answer(config, sha256, FIRST, batch=None)
    written.append(key)
    yield Finding("anomaly_s3: the bucket exists and can be written")
    archive.put_answer(config, sha256, SECOND, batch=None)
    yield from guarded("anomaly_s3", lambda: check_second_write(archive.read(key)))
    yield from guarded("anomaly_s3", lambda: _check_replacement(archive, config, sha256, written))
    yield from guarded("anomaly_s3", lambda: _check_absent(archive, config))


def check_second_write(found: bytes | None) -> Iterator[Finding]:
    """Check the object that is *found* after `FIRST` and then `SECOND` were written under one key."""
    if found == FIRST:
        yield Finding("anomaly_s3: objects can be read, and a second write under a key keeps the first object")
    elif found == SECOND:
        yield Finding("anomaly_s3", "the second write under a key replaced the first: the service must honour If-None-Match")
    else:
        yield Finding("anomaly_s3", "an object cannot be read right after it was written: the service must be consistent")


def _check_replacement(archive: Archive, config: str, sha256: str, written: list[str]) -> Iterator[Finding]:
    """Check a put without If-None-Match, as reports and unreadable answers are written."""
    key = archive.put_unreadable(config, sha256, FIRST, reason="the doctor's test object")
    written.append(key)
    archive.put_unreadable(config, sha256, SECOND, reason="the doctor's test object")
    if archive.read(key) == SECOND:
        yield Finding("anomaly_s3: objects can be replaced, as reports are")
    else:
        yield Finding("anomaly_s3", "an object cannot be replaced: reports and unreadable answers keep their first version")


def _check_absent(archive: Archive, config: str) -> Iterator[Finding]:
    """Check the right to list: without it S3 denies access to an object that does not exist."""
    absent = archive.find_answer(config, hashlib.sha256(FIRST).hexdigest(), batch=None) is None
    listed = [each.key for page in archive.pages(f"answers/{config}") for each in page]
    if absent and len(listed) == 1:
        yield Finding("anomaly_s3: objects can be listed")
    else:
        yield Finding("anomaly_s3", f"a folder with one object is listed with {len(listed)}: the service must be consistent")
