"""Keep the responses of botocore's client apart, as those of image hosts and detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anomaly.transport.guard import with_deadline

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DEADLINE_S = 120.0
"""Time limit of a response with its body."""


def guard_responses(client: S3Client, *, deadline_s: float = DEADLINE_S) -> None:
    """Let the client skip informational responses, and close each connection whose next bytes could belong to an earlier response.

    The standard library takes a 102 or 103 for the response, so that the next request would get this one's object.
    """
    session: Any = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001  # botocore has no public way
    pools = with_deadline(session._pool_classes_by_scheme, deadline_s)  # noqa: SLF001  # the same
    session._pool_classes_by_scheme = session._manager.pool_classes_by_scheme = pools  # noqa: SLF001  # the same
