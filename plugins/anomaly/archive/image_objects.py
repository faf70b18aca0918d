"""Read images from buckets: `s3://bucket/key`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import ClientError

from anomaly.archive.client import guard_responses
from anomaly.archive.errors import ABSENT, FOREIGN, code_of
from anomaly.errors import ImageDenied, ImageNotFound, ImageTooLarge, ImageUnavailable

if TYPE_CHECKING:
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


def _translated(exc: Exception, address: _Address) -> AnomalyError:
    if not isinstance(exc, ClientError):
        return ImageUnavailable(f"{address}: {type(exc).__name__}")
    code, status = code_of(exc), exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", _SERVER_ERROR)
    if code in ABSENT:
        return ImageNotFound(f"{address}: answered {code}")
    if code in _TEMPORARY or status >= _SERVER_ERROR:
        return ImageUnavailable(f"{address}: answered {code}")
    return ImageDenied(f"{address}: answered {code}")
