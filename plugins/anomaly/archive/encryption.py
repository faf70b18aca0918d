"""The server-side encryption that puts ask for, since the policy of a bucket may refuse puts without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore.store import S3Config

ALGORITHM, KEY_ID = "server_side_encryption", "sse_kms_key_id"
"""Extras of the connection, with the names of obstore."""
S3_MANAGED = "AES256"
ALGORITHMS = (S3_MANAGED, "aws:kms", "aws:kms:dsse")


@dataclass(frozen=True, slots=True)
class Encryption:
    """Headers for server-side encryption. Without an algorithm, the bucket's default applies."""

    algorithm: str = ""
    kms_key_id: str = ""

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any]) -> Self:
        """Return the encryption in a connection's extra.

        Raises:
            Misconfigured: the algorithm is unknown, or there is a key for one that takes none.
        """
        algorithm, key_id = extra.get(ALGORITHM) or "", extra.get(KEY_ID) or ""
        if algorithm and algorithm not in ALGORITHMS:
            raise Misconfigured(f"the connection anomaly_s3: {ALGORITHM} must be one of {', '.join(ALGORITHMS)}, not {algorithm!r}")
        if key_id and algorithm in {"", S3_MANAGED}:
            raise Misconfigured(f"the connection anomaly_s3: {KEY_ID} needs {ALGORITHM} to be aws:kms or aws:kms:dsse")
        return cls(algorithm, str(key_id))

    @property
    def client_options(self) -> dict[str, Any]:
        """Arguments for `put_object` of botocore's client."""
        return _given(ServerSideEncryption=self.algorithm, SSEKMSKeyId=self.kms_key_id)

    @property
    def obstore_options(self) -> S3Config:
        """Entries of obstore's configuration."""
        options: Any = _given(server_side_encryption=self.algorithm, sse_kms_key_id=self.kms_key_id)
        return options  # type: ignore[no-any-return]


def _given(**options: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}
