"""Build pools, sessions and clients from Airflow's connections. Nothing else builds them."""

from __future__ import annotations

import contextlib
import json
import os
from functools import partial
from typing import TYPE_CHECKING

from airflow.configuration import conf
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.observability import stats
from psycopg.conninfo import make_conninfo

from anomaly import detectors
from anomaly.archive import opening
from anomaly.archive.errors import FOREIGN as BUCKET_ERRORS
from anomaly.archive.errors import translated
from anomaly.connection_env import address
from anomaly.db.client import Database
from anomaly.db.detector_quota import DetectorPauseStore
from anomaly.db.errors import FOREIGN as DATABASE_ERRORS
from anomaly.db.errors import translating
from anomaly.db.maintenance import MaintenanceStore
from anomaly.db.pool import open_pool
from anomaly.db.quarantine import QuarantineStore
from anomaly.db.session import without_preparing
from anomaly.errors import AnomalyError, Misconfigured
from anomaly.images import download as images
from anomaly.images.rules import ImageRules
from anomaly.metrics import SILENT, Metrics
from anomaly.models.source import EXTRA as SOURCE
from anomaly.notifications.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Connection, Context

    from anomaly.archive.bucket import Archive
    from anomaly.archive.image_objects import ImageObjects
    from anomaly.settings import Settings

DB, S3, IMAGES, WEBHOOK = "anomaly_db", "anomaly_s3", "anomaly_images", "anomaly_webhook"


def connection(conn_id: str) -> Connection:
    """Return an Airflow connection.

    Raises:
        Misconfigured: there is none of that id, its variable cannot be read, or its extra is no object.
    """
    try:
        of = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as exc:
        variable = f"AIRFLOW_CONN_{conn_id.upper()}"
        if os.environ.get(variable):  # Airflow ignores a variable that it cannot read
            raise Misconfigured(f"{variable} is neither a connection URI nor JSON for Airflow; docs/operations.md shows both") from exc
        raise Misconfigured(f"there is no connection {conn_id}: add it in Airflow's UI (Admin, Connections) or set {variable}") from exc
    if not isinstance(of.extra_dejson, dict):
        raise Misconfigured(f"the connection {conn_id}: its extra must be a JSON object")
    return of


@contextlib.contextmanager
def _translating(conn_id: str) -> Iterator[None]:
    """Raise what a library raises about the values of a connection as the project's error. Its text may quote a password."""
    try:
        yield
    except (AnomalyError, *DATABASE_ERRORS):
        raise
    except BUCKET_ERRORS as exc:
        raise translated(exc, f"the connection {conn_id}") from exc
    except Exception as exc:  # noqa: BLE001  # libraries raise any error about a value that they do not expect
        fault = f"the connection {conn_id}: a field or an extra has a value that cannot be used ({type(exc).__name__})"
        raise Misconfigured(fault) from None


def records_dsn() -> str:
    """Return the DSN of the records database, for a single connection without a pool. A token in it is valid for minutes."""
    of = connection(DB)
    with _translating(DB), translating():
        if of.extra_dejson.get("iam"):
            of.login, of.password, of.port = PostgresHook(connection=of).get_iam_token(of)
        fields = {"host": of.host, "port": of.port, "user": of.login, "password": of.password, "dbname": of.schema}
        ignored = {*PostgresHook.ignored_extra_options, SOURCE}
        extra = {name: str(value) for name, value in of.extra_dejson.items() if name not in ignored}
        return make_conninfo("", **fields | extra)  # as the hook has it, an extra takes precedence


@contextlib.contextmanager
def database(settings: Settings, metrics: Metrics = SILENT, *, conn_id: str = DB, prepare: bool = True) -> Iterator[Database]:
    """Open the records database, or that of a source, on a checked pool of PostgresHook's connections; close the pool on exit.

    Without *prepare*, each statement is planned for its parameters, of which null means that a condition does not apply.
    """
    of = connection(conn_id)
    extra = {name: value for name, value in of.extra_dejson.items() if name != SOURCE}
    of.extra = json.dumps({"connect_timeout": settings.db_connect_timeout_s, **extra})
    connect = _translating(conn_id)(PostgresHook(connection=of, log_sql=False).get_conn)
    pool = open_pool(connect if prepare else partial(without_preparing, connect), settings)
    with contextlib.closing(Database(pool, retried=partial(metrics.retried, "database"))) as opened:
        yield opened


@contextlib.contextmanager
def quarantine_store(settings: Settings) -> Iterator[QuarantineStore]:
    """Open the store of quarantined records on a pool of its own."""
    with database(settings) as opened:
        yield QuarantineStore(opened)


@contextlib.contextmanager
def detector_pauses(settings: Settings) -> Iterator[DetectorPauseStore]:
    """Open the store of detectors' pauses on a pool of its own."""
    with database(settings) as opened:
        yield DetectorPauseStore(opened)


@contextlib.contextmanager
def maintenance_store(settings: Settings) -> Iterator[MaintenanceStore]:
    """Open the store of maintenance on a pool of its own."""
    with database(settings) as opened:
        yield MaintenanceStore(opened)


@_translating(S3)
def bucket(settings: Settings, metrics: Metrics = SILENT) -> Archive:
    """Return the archive on a client of S3Hook. The connection's options for the client override our settings."""
    extra = connection(S3).extra_dejson
    config = opening.config_of(S3, extra, settings)
    return opening.open_archive(S3Hook(aws_conn_id=S3, config=config), config, extra, on_retry=partial(metrics.retried, "archive"))


@_translating(S3)
def image_objects(settings: Settings) -> ImageObjects:
    """Return the objects of buckets, which may be images, on a client of S3Hook."""
    extra = connection(S3).extra_dejson
    config = opening.config_of(S3, extra, settings)
    return opening.open_objects(S3Hook(aws_conn_id=S3, config=config), config, extra, deadline_s=settings.image_deadline_s)


@_translating(IMAGES)
def image_rules() -> ImageRules:
    """Return the rules for image hosts; the connection is optional."""
    if not (of := _optional(IMAGES)):
        return ImageRules()
    return ImageRules.from_extra(of.extra_dejson, host=address(of, "https") if of.host else None)


def _optional(conn_id: str) -> Connection | None:
    """Return an Airflow connection, or None if there is none of that id."""
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return connection(conn_id) if os.environ.get(f"AIRFLOW_CONN_{conn_id.upper()}") else None


@contextlib.contextmanager
def image_source(settings: Settings, metrics: Metrics = SILENT) -> Iterator[images.ImageSource]:
    """Open the image hosts; close their connections on exit."""
    rules = image_rules()
    with images.session(settings, rules, on_retry=partial(metrics.retried, "image")) as session:
        yield images.ImageSource(session, settings, rules, objects=partial(image_objects, settings))


@contextlib.contextmanager
def detector(conn_id: str, settings: Settings) -> Iterator[detectors.ExplainingDetector]:
    """Open the detector that a connection describes; close its connections on exit."""
    of = connection(conn_id)
    with contextlib.ExitStack() as opened:
        with _translating(conn_id):
            base_url = address(of, "http")
            spec = detectors.DetectorConnection(base_url=base_url, login=of.login, password=of.password, extra=of.extra_dejson)
            session = opened.enter_context(detectors.session(settings, base_url))
            made = detectors.from_connection(spec, session, settings)
        yield made


def detector_health(conn_id: str, settings: Settings) -> int | None:
    """Return the status of the detector's health check; None if its dialect has none or it does not respond."""
    of = connection(conn_id)
    with _translating(conn_id):
        base_url = address(of, "http")
    return detectors.health(base_url, of.extra_dejson.get("dialect", "reference"), settings)


@_translating(WEBHOOK)
def webhook() -> Webhook | None:
    """Return the webhook that receives notifications, or None if there is no connection for it."""
    of = _optional(WEBHOOK)
    return Webhook(address(of, "https"), of.password or "") if of else None


def metrics(context: Context) -> Metrics:
    """Return metrics that are sent through Airflow; a retry of a task is counted at once."""
    ti = context["ti"]
    made = Metrics(stats, task=str(max(0, ti.map_index or 0)))
    if ti.try_number > 1:
        made.retried("task")
    return made


def tasks_at_once() -> int:
    """Return the number of tasks of all DAGs that Airflow runs at the same time."""
    return conf.getint("core", "parallelism")
