"""Checks the rules for image hosts with the image of the oldest due record."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly import connections
from anomaly.errors import AddressBlocked, AnomalyError, ImageUnavailable, Misconfigured
from anomaly.images.validation import validated
from anomaly.maintenance.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.db.maintenance import DueRecord
    from anomaly.models.records import Image
    from anomaly.settings import Settings

RULES = "add the network to allow_networks, or the port to allow_ports, in the extra of anomaly_images"
HOST = "check the host, and the headers and the proxy in the extra of anomaly_images"


def check_images(settings: Settings) -> Iterator[Finding]:
    """Check the connection's extras, and download the image of the record that a run would take first."""
    networks = ", ".join(str(network) for network in connections.image_rules().allow_networks)
    yield Finding(f"anomaly_images: images may come from public addresses{f' and from {networks}' if networks else ''}")
    with contextlib.suppress(AnomalyError):  # the check of the database names the problem
        if due := _oldest_due(settings):
            yield _try_download(due, settings)


def image_at(where: str, settings: Settings) -> Image:
    """Return the image in a file or behind an address, to which the rules for image hosts apply.

    Raises:
        Misconfigured: there is no such file.
        AnomalyError: the image cannot be downloaded or used.
    """
    if "://" in where:
        return _download(where, settings)
    try:
        content = Path(where).read_bytes()
    except OSError as exc:
        raise Misconfigured(f"the image {where} cannot be read: {exc.strerror}") from exc
    return validated(content, max_px=settings.image_max_px, source=where)


def _oldest_due(settings: Settings) -> DueRecord | None:
    with connections.maintenance_store(settings) as store:
        return store.oldest_due()


def _try_download(due: DueRecord, settings: Settings) -> Finding:
    what = f"the image of the oldest due record, {due.record_id},"
    try:
        image = _download(due.image_url, settings)
    except AnomalyError as exc:
        if not exc.may_concern_run and not isinstance(exc, ImageUnavailable):
            return Finding("anomaly_images", note=f"{what} will end with {exc.code}: {exc}")
        fix = RULES if isinstance(exc, AddressBlocked) else HOST
        return Finding("anomaly_images", f"{what} cannot be downloaded: {exc}; if others cannot either, {fix}")
    return Finding(f"anomaly_images: {what} was downloaded: {image.media_type}, {image.width_px} x {image.height_px} pixels")


def _download(url: str | None, settings: Settings) -> Image:
    """Download an image without retries."""
    with connections.image_source(dataclasses.replace(settings, image_retries=0)) as source:
        return source.fetch(url)
