"""Tries the connections in environment variables with the requests of a run, without importing Airflow. Leaves nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from functools import partial
from typing import TYPE_CHECKING

from anomaly import connection_env, detectors
from anomaly.archive.bucket import Archive
from anomaly.archive.encryption import Encryption
from anomaly.connection_env import DB, DETECTOR, IMAGES, S3
from anomaly.db.client import Database
from anomaly.db.pool import connector, open_pool
from anomaly.db.schema import try_claim
from anomaly.db.source_check import usable
from anomaly.errors import AnomalyError, DetectorAnswerInvalid, DetectorOverloaded, DetectorRefused, Misconfigured, Throttled
from anomaly.images.rules import ImageRules
from anomaly.images.validation import plain_image, validated
from anomaly.models.source import RECORDS_DB, configured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from anomaly.models.records import Image
    from anomaly.settings import Settings

    Trial = Callable[[connection_env.EnvConnection, Settings], str]

PROBE = b"{}"


def try_connections(environ: Mapping[str, str], settings: Settings, *, image: Path | None = None) -> Iterator[str]:
    """Try each connection whose variable is set; yield a line about each. The detector is asked about *image*, or a plain grey one.

    Raises:
        Misconfigured: a connection cannot be used; the sentence begins with its variable.
    """
    connection_env.check(environ)
    trials: dict[str, Trial] = {IMAGES: _read_rules, DB: _claim, S3: _use_bucket, DETECTOR: partial(_ask, image=_image(image, settings))}
    for variable, trial in trials.items():
        if not environ.get(variable):
            continue
        try:
            with connection_env.translating(variable):
                line = trial(connection_env.read(variable, environ[variable]), settings)
        except AnomalyError as exc:
            raise Misconfigured(str(exc) if str(exc).startswith(variable) else f"{variable}: {exc}") from exc
        if line:
            yield f"{variable}: {line}"


def _image(path: Path | None, settings: Settings) -> Image:
    if path is None:
        return plain_image()
    try:
        return validated(path.read_bytes(), max_px=settings.image_max_px, source=path)
    except OSError as exc:
        raise Misconfigured(f"the image {path} cannot be read: {exc.strerror}") from exc


def _read_rules(connection: connection_env.EnvConnection, _settings: Settings) -> str:
    host = connection_env.address(connection, "https") if connection.host else None
    ImageRules.from_extra(connection.extra, host=host)
    return ""


def _claim(connection: connection_env.EnvConnection, settings: Settings) -> str:
    dsn = connection_env.dsn(connection)
    try_claim(dsn)
    sources = configured(connection.extra, settings.source)
    here = [source for source in sources if source.connection == RECORDS_DB]
    with contextlib.closing(Database(open_pool(connector(dsn, settings), settings))) as database:
        for source in here:
            usable(database, source)
    names = "".join(f"; records come from {source.label}" for source in sources)
    return f"a claim was tried and rolled back{names}"


def _use_bucket(connection: connection_env.EnvConnection, _settings: Settings) -> str:
    extra = connection.extra
    archive = Archive(
        connection_env.s3_client(connection), extra["bucket"], extra.get("prefix", ""), encryption=Encryption.from_extra(extra)
    )
    key = archive.put_answer(f"startup-{uuid.uuid4()}", hashlib.sha256(PROBE).hexdigest(), PROBE, batch=None)
    try:
        if archive.read(key) != PROBE:
            raise Misconfigured("an object cannot be read right after it was written: the service must be consistent")
    finally:
        with contextlib.suppress(AnomalyError):  # only maintenance needs the right to delete
            archive.delete([key])
    return "an object was written, read and deleted"


def _ask(connection: connection_env.EnvConnection, settings: Settings, *, image: Image) -> str:
    base_url = connection_env.address(connection, "http")
    spec = detectors.DetectorConnection(base_url=base_url, login=connection.login, password=connection.password, extra=connection.extra)
    with detectors.session(settings, base_url) as session:
        try:
            answer = detectors.from_connection(spec, session, settings).ask(image, idempotency_key=uuid.uuid4().hex)
        except (Throttled, DetectorOverloaded) as exc:
            return f"the detector is busy, and runs will wait for it: {exc}"
        except (DetectorRefused, DetectorAnswerInvalid) as exc:
            hint = "compare the path in the extra with the detector's documentation; if it accepts photos only, start with --image"
            raise Misconfigured(f"{exc}; {hint} and the path of one") from exc
    return f"the detector was asked and answered with a score of {answer.verdict.score:.3g} in {answer.latency_ms:.0f} ms"
