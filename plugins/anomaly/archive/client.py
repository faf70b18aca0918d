"""Configures botocore's client, and changes some of its requests and its reading of responses."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from botocore.handlers import add_expect_header

from anomaly.transport.guard import with_deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from anomaly.settings import Settings

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
DEADLINE_S = 120.0
"""Time limit of a response with its body."""
USER_AGENT = "anomaly"


def client_config(settings: Settings, *, endpoint_url: str | None = None) -> dict[str, Any]:
    """Return keyword arguments for botocore's Config.

    `total_max_attempts` includes the first try, unlike `max_attempts`. Botocore computes only the checksums that S3 demands,
    since it sends the others as trailers, which some S3 servers do not support. A server other than AWS is addressed by path:
    few have a DNS name for each bucket.
    """
    return {
        "retries": {"mode": "adaptive", "total_max_attempts": settings.s3_attempts},
        "max_pool_connections": settings.s3_pool,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "tcp_keepalive": True,
        "parameter_validation": False,  # the server checks them
        "user_agent": USER_AGENT,  # botocore would build its own anew for every request
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        **({"s3": {"addressing_style": "path"}} if endpoint_url else {}),
    }


def prepare(client: S3Client, *, on_retry: Callable[[], None]) -> None:
    """Change what the client sends and how it reads, and call *on_retry* before each further try of a request."""
    events = client.meta.events
    # botocore emits this after each try of a request, successful or not.
    events.register("needs-retry.s3", lambda attempts, **_: on_retry() if attempts > 1 else None)
    # With Expect, each write would wait for two responses, and read the first one byte by byte.
    events.unregister("before-call.s3", add_expect_header)
    events.register("before-call.s3.DeleteObjects", _add_md5)
    guard_responses(client)


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Add the digest that services demand which know no other checksum of this request."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = b64encode(digest).decode()


def guard_responses(client: S3Client, *, deadline_s: float = DEADLINE_S) -> None:
    """Let the client skip informational responses, and close each connection whose next bytes could belong to an earlier response.

    The standard library takes a 102 or 103 for the response, so that the next request would get this one's object.
    """
    session: Any = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001  # botocore has no public way
    pools = with_deadline(session._pool_classes_by_scheme, deadline_s)  # noqa: SLF001  # the same
    session._pool_classes_by_scheme = session._manager.pool_classes_by_scheme = pools  # noqa: SLF001  # the same
