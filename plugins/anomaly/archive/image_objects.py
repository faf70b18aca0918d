"""Read images from buckets: `s3://bucket/key`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import ClientError

from anomaly.archive.client import guard_responses
from anomaly.archive.errors import ABSENT, FOREIGN, code_of, translated
from anomaly.errors import ImageDenied, ImageNotFound, ImageTooLarge, ImageUnavailable
from anomaly.models.objects import StoredObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from anomaly.errors import AnomalyError

_SERVER_ERROR = 500
_TEMPORARY = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "429"})


class _Address(Protocol):
    @property
    def bucket(self) -> str: ...
    @property
    def key(self) -> str: ...


class ImageObjects:
    """Objects that any bucket of the service may hold. Each is read within *deadline_s*. Retries are up to the client. For many threads."""

    def __init__(self, client: S3Client, *, own_bucket: str, deadline_s: float) -> None:
        guard_responses(client, deadline_s=deadline_s)
        self._client = client
        self.own_bucket = own_bucket

    def read(self, address: _Address, *, max_bytes: int) -> bytes:
        """Return an object of at most *max_bytes*.

        Raises:
            ImageNotFound, ImageDenied: the service refuses it.
            ImageTooLarge: it has more bytes.
            ImageUnavailable: it could not be read in full; a later attempt may succeed.
        """
        try:
            response = self._client.get_object(Bucket=address.bucket, Key=address.key)
            with contextlib.closing(response["Body"]) as body:
                if response["ContentLength"] > max_bytes:
                    raise ImageTooLarge(f"{address}: {response['ContentLength']} bytes, more than {max_bytes}")
                return body.read()
        except FOREIGN as exc:
            raise _translated(exc, address) from exc

    def pages(self, bucket: str, prefix: str) -> Iterator[list[StoredObject]]:
        """Yield all objects of a bucket whose keys begin with *prefix*, one page of a listing at a time.

        Raises:
            ArchiveUnavailable, Misconfigured: the bucket cannot be listed.
        """
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                yield [
                    StoredObject(key=each["Key"], written_at=each["LastModified"], size_bytes=each["Size"])
                    for each in page.get("Contents", [])
                ]
        except FOREIGN as exc:
            raise translated(exc, f"cannot list bucket {bucket!r}") from exc


def _translated(exc: Exception, address: _Address) -> AnomalyError:
    if not isinstance(exc, ClientError):
        return ImageUnavailable(f"{address}: {type(exc).__name__}")
    code, status = code_of(exc), exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", _SERVER_ERROR)
    if code in ABSENT:
        return ImageNotFound(f"{address}: answered {code}")
    if code in _TEMPORARY or status >= _SERVER_ERROR:
        return ImageUnavailable(f"{address}: answered {code}")
    return ImageDenied(f"{address}: answered {code}")
