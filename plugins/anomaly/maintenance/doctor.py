"""Checks connections, privileges, schema, bucket, detector, clocks and settings. Leaves nothing behind and touches no record."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from anomaly import schedules
from anomaly.db.statements import FOLDER
from anomaly.errors import Misconfigured
from anomaly.maintenance.check_bucket import check_bucket
from anomaly.maintenance.check_database import check_database, check_pool
from anomaly.maintenance.check_detector import check_detector
from anomaly.maintenance.check_images import check_images
from anomaly.maintenance.check_notifications import check_notifications
from anomaly.maintenance.findings import Finding, guarded
from anomaly.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


class Doctor:
    """Runs all checks, also after one that failed.

    Args:
        environ: environment variables, from which it reads the settings.
        detector: id of the detector's connection.
        image: path or address of the image that the detector is asked about; None for a made one.
        folder: the SQL files to check.
        now: clock of this machine.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        detector: str = "anomaly_detector",
        image: str | None = None,
        folder: Path = FOLDER,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._environ = environ
        settings, self._refused = usable_settings(environ)
        self._refused += schedules.refused(environ)
        self._checks: dict[str, Callable[[], Iterator[Finding]]] = {
            "settings": self._check_settings,
            "anomaly_db": partial(check_database, settings, folder),
            "pool": partial(check_pool, settings, now=now),
            "anomaly_s3": partial(check_bucket, settings, now=now),
            detector: partial(check_detector, detector, settings, image=image),
            "anomaly_images": partial(check_images, settings),
            "notifications": partial(check_notifications, settings),
        }

    def findings(self) -> Iterator[Finding]:
        """Yield the findings of each check in turn."""
        for what, check in self._checks.items():
            yield from guarded(what, check)

    def _check_settings(self) -> Iterator[Finding]:
        yield from (Finding("settings", sentence) for sentence in self._refused)
        if not self._refused:
            given = sorted(name for name in self._environ if name.startswith(PREFIX))
            yield Finding(f"settings: {', '.join(given) or 'all defaults'}")


def usable_settings(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Return the valid settings, and a sentence for each one that is refused."""
    left = dict(environ)
    refused: list[str] = []
    while True:
        try:
            return Settings.from_environ(left), refused
        except Misconfigured as exc:
            refused.append(f"{exc}; correct it, or unset it")
            for name in re.findall(rf"{PREFIX}[A-Z0-9_]+", str(exc).partition("; did you mean")[0]):
                left.pop(name, None)
