"""Checks connections, privileges, schema, bucket, detector, clocks and settings. Leaves nothing behind and touches no record."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from PIL import Image as Pillow

from anomaly import connections
from anomaly.db import schema
from anomaly.db.errors import translating
from anomaly.db.pool import connector
from anomaly.db.sql_check import check_statements
from anomaly.db.statements import FOLDER, Statements
from anomaly.errors import AnomalyError, Misconfigured
from anomaly.images.validation import validated
from anomaly.program import PROGRAM
from anomaly.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

SKEW_MAX_S = 30.0
"""Windows are compared with times of capture, and S3 refuses signatures that are 15 minutes off."""
FIRST, SECOND = b"first", b"second"
HEALTHY = range(200, 300)
NOT_FOUND = 404
FILES_NAMED = 3
"""Most SQL files that one finding names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, one line."""

    what: str
    problem: str = ""
    """The problem and its fix; empty if the check passed."""

    def __str__(self) -> str:
        return f"BAD {self.what}: {self.problem}" if self.problem else f"ok  {self.what}"


class Doctor:
    """Runs all checks, also after one that failed.

    Args:
        environ: environment variables, from which it reads the settings.
        detector: id of the detector's connection.
        folder: the SQL files to check.
        now: clock of this machine.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        detector: str = "anomaly_detector",
        folder: Path = FOLDER,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._environ = environ
        self._detector = detector
        self._folder = folder
        self._now = now
        self._settings, self._refused = usable_settings(environ)

    def findings(self) -> Iterator[Finding]:
        """Yield the findings of each check in turn."""
        checks = {
            "settings": self._check_settings,
            "anomaly_db": self._check_database,
            "pool": self._check_pool,
            "anomaly_s3": self._check_bucket,
            self._detector: self._check_detector,
            "anomaly_images": self._check_images,
        }
        for what, check in checks.items():
            yield from _guarded(what, check)

    def _check_settings(self) -> Iterator[Finding]:
        yield from (Finding("settings", sentence) for sentence in self._refused)
        if not self._refused:
            given = sorted(name for name in self._environ if name.startswith(PREFIX))
            yield Finding(f"settings: {', '.join(given) or 'all defaults'}")

    # ── database

    def _check_database(self) -> Iterator[Finding]:
        with translating(), connector(connections.records_dsn(), self._settings)() as connection:
            at = connection.info
            yield Finding(f"anomaly_db: {at.user} at {at.host}:{at.port}/{at.dbname}")
            yield from _guarded("schema", lambda: _check_schema(schema.applied_migrations(connection)))
            yield from _guarded("SQL files", lambda: self._check_statements(check_statements(connection, Statements(self._folder))))

    def _check_statements(self, faults: Mapping[str, str]) -> Iterator[Finding]:
        files = defaultdict(list)
        for name, fault in faults.items():
            files[fault].append(f"{name}.sql")
        if valid := files.pop("", None):
            yield Finding(f"SQL files: {len(valid)} match the schema and the privileges of the login")
        for fault, names in files.items():
            further = f" and {len(names) - FILES_NAMED} more" if len(names) > FILES_NAMED else ""
            yield Finding("SQL files", f"{', '.join(names[:FILES_NAMED])}{further}: {fault}; {_fix(fault)}")

    def _check_pool(self) -> Iterator[Finding]:
        with connections.maintenance_store(self._settings) as store:
            began = self._now()
            server = store.server()
            ended = self._now()
        each, accepted = self._settings.db_pool_max, server.connections
        tasks = min(connections.tasks_at_once(), self._settings.tasks_max)
        if each * tasks > accepted:
            yield Finding(
                "pool",
                f"{tasks} tasks with {each} connections each may need {each * tasks}, and the server accepts {accepted}: "
                "lower ANOMALY_DB_POOL_MAX or ANOMALY_TASKS_MAX, or raise max_connections",
            )
        else:
            yield Finding(f"pool: Postgres {server.version} accepts {accepted} connections, enough for {tasks} tasks with {each} each")
        yield _clock("the database", server.now, began, ended)

    # ── bucket

    def _check_bucket(self) -> Iterator[Finding]:
        archive = connections.bucket(self._settings)
        began = self._now()
        at = archive.clock()
        ended = self._now()
        config, sha256 = f"doctor-{uuid.uuid4()}", hashlib.sha256().hexdigest()
        key = archive.put_answer(config, sha256, FIRST, batch=None)
        yield Finding("anomaly_s3: the bucket exists and can be written")
        archive.put_answer(config, sha256, SECOND, batch=None)
        yield from _guarded("anomaly_s3", lambda: check_second_write(archive.read_answer(key)))
        archive.delete([key])
        yield Finding("anomaly_s3: objects can be deleted")
        if at:
            yield _clock("the bucket", at, began, ended)

    # ── detector and images

    def _check_pause(self) -> Iterator[Finding]:
        with connections.detector_pauses(self._settings) as pauses:
            until = pauses.paused_until(self._detector)
        if until:
            at = until.astimezone(UTC).isoformat(sep=" ", timespec="seconds")
            fix = f"wait, or run {PROGRAM} resume-detector {self._detector}"
            yield Finding(self._detector, f"it has asked for a pause, and all tasks leave it alone until {at}: {fix}")

    def _check_detector(self) -> Iterator[Finding]:
        with contextlib.suppress(AnomalyError):  # the check of the database names what is wrong with it
            yield from self._check_pause()
        health = connections.detector_health(self._detector, self._settings)
        if health in HEALTHY:
            yield Finding(f"{self._detector}: it is ready")
        elif health is not None and health != NOT_FOUND:
            yield Finding(self._detector, f"its health check answered {health}: wait, or read its log")
        image = validated(gradient_png(), max_px=self._settings.image_max_px, source="the doctor's image")
        with connections.detector(self._detector, self._settings) as detector:
            answer = detector.ask(image, idempotency_key=uuid.uuid4().hex)
        verdict = answer.verdict
        result = f"{verdict.detector} called an image {'anomalous' if verdict.is_anomaly else 'normal'} with a score of {verdict.score:.3g}"
        yield Finding(f"{self._detector}: {result}, in {answer.latency_ms:.0f} ms")

    def _check_images(self) -> Iterator[Finding]:
        networks = ", ".join(str(network) for network in connections.image_rules().allow_networks)
        yield Finding(f"anomaly_images: images may come from public addresses{f' and from {networks}' if networks else ''}")


def usable_settings(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Return the valid settings, and a sentence for each one that is refused."""
    left = dict(environ)
    refused: list[str] = []
    while True:
        try:
            return Settings.from_environ(left), refused
        except Misconfigured as exc:
            refused.append(f"{exc}; correct it, or unset it")
            for name in re.findall(rf"{PREFIX}[A-Z0-9_]+", str(exc)):
                left.pop(name, None)


def gradient_png() -> bytes:
    """Return a generated PNG, a gradient of grey."""
    png = io.BytesIO()
    Pillow.linear_gradient("L").save(png, "PNG")
    return png.getvalue()


def _guarded(what: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except AnomalyError as exc:
        yield Finding(what, str(exc))
    except Exception as exc:  # noqa: BLE001  # the other checks have to run
        # Without its message, which may quote the connection and its password.
        yield Finding(
            what, f"{type(exc).__name__}: check that the connection is a URI or JSON as Airflow reads it; .env.example shows both"
        )


def _check_schema(applied: set[str]) -> Iterator[Finding]:
    ours = schema.known_migrations()
    if missing := ours - applied:
        yield Finding("schema", f"the records database lacks {', '.join(sorted(missing))}: run {PROGRAM} migrate")
    else:
        newer = sorted(applied - ours)
        more = f", and {', '.join(newer)} of a newer version" if newer else ""
        yield Finding(f"schema: all {len(ours)} migrations are applied{more}")


def check_second_write(found: bytes | None) -> Iterator[Finding]:
    """Check the object that is *found* after `FIRST` and then `SECOND` were written under one key."""
    if found == FIRST:
        yield Finding("anomaly_s3: objects can be read, and a second write under a key keeps the first object")
    elif found == SECOND:
        yield Finding("anomaly_s3", "the second write under a key replaced the first: the service must honour If-None-Match")
    else:
        yield Finding("anomaly_s3", "an object cannot be read right after it was written: the service must be consistent")


def _clock(whose: str, at: datetime, began: datetime, ended: datetime) -> Finding:
    """Compare a clock, read between *began* and *ended*, with this machine's. The time of the request is not counted as a difference."""
    ahead_s = max((at - ended).total_seconds(), 0.0) - max((began - at).total_seconds(), 0.0)
    if abs(ahead_s) > SKEW_MAX_S:
        order = "ahead of" if ahead_s > 0 else "behind"
        return Finding("clocks", f"the clock of {whose} is {abs(ahead_s):.0f} s {order} this machine's: set both by NTP")
    return Finding(f"clocks: {whose} and this machine agree within {SKEW_MAX_S:g} s")


def _fix(fault: str) -> str:
    return "grant it to the login of anomaly_db" if "permission denied" in fault else f"run {PROGRAM} migrate, or correct the files"
