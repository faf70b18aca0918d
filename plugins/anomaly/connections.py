"""Airflow's connections become pools, sessions and clients here; nothing else builds them."""

from __future__ import annotations

import contextlib
import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from airflow.configuration import conf
from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.observability import stats
from botocore.config import Config
from psycopg.conninfo import make_conninfo

from anomaly import detectors
from anomaly.archive import bucket as archive
from anomaly.archive.straight_puts import StraightPuts
from anomaly.db.client import Database
from anomaly.db.maintenance import MaintenanceStore
from anomaly.db.pool import open_pool
from anomaly.db.quarantine import QuarantineStore
from anomaly.db.record_store import RecordStore
from anomaly.errors import Misconfigured
from anomaly.images import download as images
from anomaly.metrics import SILENT, Metrics
from anomaly.transport import session as sessions
from anomaly.transport.guard import pool_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import Connection, Context
    from mypy_boto3_s3 import S3Client

    from anomaly.settings import Settings

DB, S3, IMAGES = "anomaly_db", "anomaly_s3", "anomaly_images"
HEALTH = {"reference": "/readyz"}
"""Where detectors of a dialect tell whether they are ready."""


def connection(conn_id: str) -> Connection:
    """An Airflow connection.

    Raises:
        Misconfigured: there is none of that id, or its variable cannot be read.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as exc:
        variable = f"AIRFLOW_CONN_{conn_id.upper()}"
        if os.environ.get(variable):  # Airflow passes over what it cannot read
            raise Misconfigured(f"{variable} is neither a connection URI nor JSON as Airflow reads them; .env.example shows both") from exc
        raise Misconfigured(f"there is no connection {conn_id}: add it in Airflow's UI (Admin, Connections) or set {variable}") from exc


def records_dsn() -> str:
    """The records database as libpq reads it, for those who need one connection and no pool."""
    of = connection(DB)
    extra = {name: str(value) for name, value in of.extra_dejson.items() if name not in PostgresHook.ignored_extra_options}
    return make_conninfo("", **extra, host=of.host, port=of.port, user=of.login, password=of.password, dbname=of.schema)


@contextlib.contextmanager
def database(settings: Settings, metrics: Metrics = SILENT) -> Iterator[Database]:
    """The records database, on a checked pool of PostgresHook's connections; the pool is closed afterwards."""
    of = connection(DB)
    of.extra = json.dumps({"connect_timeout": settings.db_connect_timeout_s, **of.extra_dejson})
    hook = PostgresHook(connection=of, log_sql=False)
    pool = open_pool(hook.get_conn, settings)
    with contextlib.closing(Database(pool, retried=partial(metrics.retried, "database"))) as opened:
        yield opened


@contextlib.contextmanager
def record_store(settings: Settings) -> Iterator[RecordStore]:
    """The gateway to the records, on such a pool."""
    with database(settings) as opened:
        yield RecordStore(opened, settings)


@contextlib.contextmanager
def quarantine_store(settings: Settings) -> Iterator[QuarantineStore]:
    """The quarantined records, on such a pool."""
    with database(settings) as opened:
        yield QuarantineStore(opened)


@contextlib.contextmanager
def maintenance_store(settings: Settings) -> Iterator[MaintenanceStore]:
    """What upkeep asks of the records database, on such a pool."""
    with database(settings) as opened:
        yield MaintenanceStore(opened)


def bucket(settings: Settings, metrics: Metrics = SILENT) -> archive.Archive:
    """The archive, on one client of S3Hook; what the connection says about the client goes before our settings."""
    extra = connection(S3).extra_dejson
    if not extra.get("bucket"):
        raise Misconfigured(f'the connection {S3} names no bucket; add "bucket" to its extra')
    config = Config(**{**archive.client_config(settings, endpoint_url=extra.get("endpoint_url")), **extra.get("config_kwargs", {})})
    hook = S3Hook(aws_conn_id=S3, config=config)
    # As the hook's get_conn() would, which reads the source of each caller for the User-Agent: half a second of each task.
    session = hook.get_session()
    client = session.client("s3", endpoint_url=hook.conn_config.get_service_endpoint_url("s3"), config=config, verify=hook.verify)
    retried = partial(metrics.retried, "archive")
    straight = _straight_puts(client, session.get_credentials(), verify=hook.verify, settings=settings, retried=retried)
    return archive.Archive(client, extra["bucket"], extra.get("prefix", ""), straight=straight, retried=retried)


def _straight_puts(
    client: S3Client, credentials: Any, *, verify: bool | str | None, settings: Settings, retried: Callable[[], None]
) -> StraightPuts | None:
    """The short way for most puts, with the client's proxies and certificates; none where it would lack something."""
    config: Any = client.meta.config
    if credentials is None or config.client_cert or config.proxies_config:
        return None
    timeout_s = config.connect_timeout, config.read_timeout
    session = sessions.StraightSession(
        pools=pool_classes(deadline_s=2 * config.read_timeout, only_public=False),
        origins=1,
        connections=settings.s3_pool,
        proxies=config.proxies or requests.utils.get_environ_proxies(client.meta.endpoint_url),
    )
    if (verify := os.environ.get("AWS_CA_BUNDLE") if verify is None else verify) is not None:
        session.verify = verify
    return StraightPuts(client, session, credentials, timeout_s=timeout_s, retried=retried)


def image_rules() -> images.ImageRules:
    """Where images may come from; the connection is optional."""
    try:
        of = BaseHook.get_connection(IMAGES)
    except AirflowNotFoundException:
        if not os.environ.get(f"AIRFLOW_CONN_{IMAGES.upper()}"):
            return images.ImageRules()
        of = connection(IMAGES)
    return images.ImageRules.from_extra(of.extra_dejson, host=_address(of, "https") if of.host else None)


@contextlib.contextmanager
def image_source(settings: Settings, metrics: Metrics = SILENT) -> Iterator[images.ImageSource]:
    """The image hosts."""
    rules = image_rules()
    with images.session(settings, rules, retried=partial(metrics.retried, "image")) as session:
        yield images.ImageSource(session, settings, rules)


@contextlib.contextmanager
def detector(conn_id: str, settings: Settings) -> Iterator[detectors.Detector]:
    """The detector that a connection describes."""
    of = connection(conn_id)
    base_url = _address(of, "http")
    spec = detectors.DetectorConnection(base_url=base_url, login=of.login, password=of.password, extra=of.extra_dejson)
    with detectors.session(settings, base_url) as session:
        yield detectors.from_connection(spec, session, settings)


def detector_health(conn_id: str, settings: Settings) -> int | None:
    """What the detector answers where it tells about its health; None where it tells nothing, or nowhere."""
    of = connection(conn_id)
    base_url, path = _address(of, "http"), HEALTH.get(of.extra_dejson.get("dialect", "reference"))
    if path is None:
        return None
    timeout = settings.detector_connect_timeout_s, settings.detector_read_timeout_s
    with detectors.session(settings, base_url) as session:
        try:
            return session.get(base_url.rstrip("/") + path, timeout=timeout, allow_redirects=False).status_code
        except requests.RequestException:
            return None


def metrics(context: Context) -> Metrics:
    """Airflow's statistics; a further try of a task is told at once."""
    ti = context["ti"]
    made = Metrics(stats, task=str(max(0, ti.map_index or 0)))
    if ti.try_number > 1:
        made.retried("task")
    return made


def tasks_at_once() -> int:
    """How many tasks Airflow runs side by side, of whatever DAG."""
    return conf.getint("core", "parallelism")


def _address(of: Connection, scheme: str) -> str:
    """The address in a connection, where the host may be a whole URL with a path, and the schema names the scheme."""
    host = of.host or ""
    parts = urlsplit(host if "://" in host else f"{of.schema or scheme}://{host}")
    return parts._replace(netloc=f"{parts.netloc}:{of.port}").geturl() if of.port and not parts.port else parts.geturl()
