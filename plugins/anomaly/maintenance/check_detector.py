"""Checks the detector with one request."""

from __future__ import annotations

import contextlib
import io
import uuid
from datetime import UTC
from typing import TYPE_CHECKING

from PIL import Image as Pillow

from anomaly import connections
from anomaly.errors import AnomalyError, DetectorAnswerInvalid, DetectorRefused
from anomaly.images.validation import validated
from anomaly.maintenance.check_images import image_at
from anomaly.maintenance.findings import Finding
from anomaly.program import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.models.records import Image
    from anomaly.settings import Settings

HEALTHY = range(200, 300)
NOT_FOUND = 404


def check_detector(detector: str, settings: Settings, *, image: str | None) -> Iterator[Finding]:
    """Check for a pause, ask for the detector's health, and ask it about an image: the one in a file or at an address, or a made one."""
    with contextlib.suppress(AnomalyError):  # the check of the database names the problem
        yield from _check_pause(detector, settings)
    health = connections.detector_health(detector, settings)
    if health in HEALTHY:
        yield Finding(f"{detector}: it is ready")
    elif health is not None and health != NOT_FOUND:
        yield Finding(detector, f"its health check answered {health}: wait, or read its log")
    yield from _ask(detector, settings, image_at(image, settings) if image else _gradient(settings), made=not image)


def _check_pause(detector: str, settings: Settings) -> Iterator[Finding]:
    with connections.detector_pauses(settings) as pauses:
        until = pauses.paused_until(detector)
    if until:
        at = until.astimezone(UTC).isoformat(sep=" ", timespec="seconds")
        fix = f"wait, or run {PROGRAM} resume-detector {detector}"
        yield Finding(detector, f"it has asked for a pause, and all tasks leave it alone until {at}: {fix}")


def _ask(conn_id: str, settings: Settings, image: Image, *, made: bool) -> Iterator[Finding]:
    with connections.detector(conn_id, settings) as detector:
        try:
            answer = detector.ask(image, idempotency_key=uuid.uuid4().hex)
        except (DetectorRefused, DetectorAnswerInvalid) as exc:
            hint = f"; if it accepts photos only, run {PROGRAM} doctor --image with the path or address of one" if made else ""
            yield Finding(conn_id, f"{exc}{hint}")
            return
    verdict = answer.verdict
    result = f"{verdict.detector} called an image {'anomalous' if verdict.is_anomaly else 'normal'} with a score of {verdict.score:.3g}"
    yield Finding(f"{conn_id}: {result}, in {answer.latency_ms:.0f} ms")
    with contextlib.suppress(AnomalyError):  # as above
        yield from _check_name(conn_id, settings, verdict.detector, [detector.config, detector.reading])


def _check_name(conn_id: str, settings: Settings, name: str, configs: list[str]) -> Iterator[Finding]:
    """Check that no other detector, nor this one with other options, has given verdicts under the same name."""
    with connections.maintenance_store(settings) as store:
        others = store.other_configs(name, configs)
    if others:
        configurations = "another configuration has" if others == 1 else f"{others} other configurations have"
        fix = 'set "model" in the extra of one of them so that comparisons tell them apart; answers are kept apart in any case'
        yield Finding(conn_id, note=f"{configurations} given verdicts under the name {name} in the last 30 days: {fix}")


def _gradient(settings: Settings) -> Image:
    """Return an image in shades of grey, for detectors without a photo of their own."""
    png = io.BytesIO()
    Pillow.linear_gradient("L").save(png, "PNG")
    return validated(png.getvalue(), max_px=settings.image_max_px, source="the doctor's image")
