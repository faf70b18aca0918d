"""Open the archive, and buckets with images, on a client of an Airflow hook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.config import Config

from anomaly.archive.bucket import Archive
from anomaly.archive.client import client_config
from anomaly.archive.encryption import Encryption
from anomaly.archive.image_objects import ImageObjects
from anomaly.archive.obstore_puts import ObstorePuts
from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_s3 import S3Client

    from anomaly.settings import Settings


def config_of(conn_id: str, extra: Mapping[str, Any], settings: Settings) -> Config:
    """Return the configuration of the client. The connection's options override ours.

    Raises:
        Misconfigured: the connection names no bucket, or its options are wrong.
    """
    if not extra.get("bucket"):
        raise Misconfigured(f'the connection {conn_id} names no bucket; add "bucket" to its extra')
    options = extra.get("config_kwargs", {})
    if not isinstance(options, dict):
        raise Misconfigured(
            f"the connection {conn_id}: config_kwargs must be a JSON object, so write the connection as JSON; docs/operations.md shows it"
        )
    try:
        return Config(**{**client_config(settings, endpoint_url=extra.get("endpoint_url")), **options})
    except TypeError as exc:
        raise Misconfigured(f"the connection {conn_id}: botocore refuses config_kwargs: {exc}") from exc


def open_archive(hook: Any, config: Config, extra: Mapping[str, Any], *, on_retry: Callable[[], None]) -> Archive:
    """Return the archive in the bucket that *extra* names, on a client of an S3Hook."""
    session, client = _client(hook, config)
    encryption = Encryption.from_extra(extra)
    puts = None
    if session.get_credentials():
        puts = ObstorePuts(client, session, encryption=encryption, verify=hook.verify, on_retry=on_retry)
    return Archive(client, extra["bucket"], extra.get("prefix", ""), encryption=encryption, puts=puts, on_retry=on_retry)


def open_objects(hook: Any, config: Config, extra: Mapping[str, Any], *, deadline_s: float) -> ImageObjects:
    """Return the objects of all buckets that a client of an S3Hook reaches."""
    return ImageObjects(_client(hook, config)[1], own_bucket=extra["bucket"], deadline_s=deadline_s)


def _client(hook: Any, config: Config) -> tuple[Any, S3Client]:
    # The hook's get_conn() reads the source of each caller for the User-Agent, which takes half a second of each task.
    session = hook.get_session()
    client = session.client("s3", endpoint_url=hook.conn_config.get_service_endpoint_url("s3"), config=config, verify=hook.verify)
    return session, client
