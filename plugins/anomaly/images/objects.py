"""Addresses of images in a bucket, such as `s3://bucket/key`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from anomaly.errors import AddressBlocked
from anomaly.escaping import escaped

SCHEME = "s3://"
_SHOWN_MAX = 200


@dataclass(frozen=True, slots=True)
class ObjectAddress:
    """An object of a bucket. Its key is taken as it is, without decoding."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return escaped(f"{SCHEME}{self.bucket}/{self.key}"[:_SHOWN_MAX])


class ObjectReader(Protocol):
    """Reads objects of buckets."""

    @property
    def own_bucket(self) -> str:
        """The archive's bucket, from which images are always allowed."""
        ...

    def read(self, address: ObjectAddress, *, max_bytes: int) -> bytes:
        """Return the object.

        Raises:
            ImageNotFound, ImageDenied: the service refuses it.
            ImageTooLarge: it has more than *max_bytes*.
            ImageUnavailable: it could not be read in full.
        """
        ...


def is_object(url: str | None) -> bool:
    """Return whether *url* is an address in a bucket, right or wrong."""
    return url is not None and url.lstrip()[: len(SCHEME)].lower() == SCHEME


def parse_object(url: str) -> ObjectAddress:
    """Return the address that *url* is.

    Raises:
        AddressBlocked: it lacks the bucket or the key.
    """
    bucket, _, key = url.strip()[len(SCHEME) :].partition("/")
    if not bucket or not key or "\0" in key:
        raise AddressBlocked(f"{escaped(url.strip()[:_SHOWN_MAX])}: not an address such as s3://bucket/key")
    return ObjectAddress(bucket, key)
