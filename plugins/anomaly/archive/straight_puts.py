"""Puts that botocore signs and does nothing else for.

A call of a botocore client takes a millisecond of processor time, most of it for being able to make any call of any service. Once
a client has put one object, the next ones differ from it in key, body and time, so they are built by hand, signed by botocore's
signer, and sent over a session. Whatever is not plainly written so is the client's again: it alone retries, slows down, follows
a bucket into its region, and knows what an error means.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import get_current_datetime
from urllib3 import Timeout

from anomaly.transport.session import FAILURES, body_of, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from botocore.credentials import Credentials, ReadOnlyCredentials
    from mypy_boto3_s3 import S3Client

    from anomaly.transport.session import StraightSession

LOOKING_S = 1.0
"""A put waits no longer for another one to show the way."""
REST_S = 10.0
"""After a failure the client does it all for so long, at the pace that it finds right."""
ANSWER_BYTES = 64 * 1024
# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
_SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^/]+)/s3/aws4_request,")


class _Way(NamedTuple):
    base_url: str
    host: str
    region: str


class StraightPuts:
    """For many threads.

    Args:
        client: whose requests show the way: where to, and for which region they are signed.
        credentials: asked for each put, since they may be renewed.
        timeout_s: to connect, and of silence.
        retried: is told of each put that failed and is the client's again.
    """

    def __init__(
        self,
        client: S3Client,
        session: StraightSession,
        credentials: Credentials,
        *,
        timeout_s: tuple[float, float],
        retried: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._credentials = credentials
        self._timeout = Timeout(connect=timeout_s[0], read=timeout_s[1])
        self._tell_retried = retried
        self._clock = clock
        self._rests_until = float("-inf")
        self._seen: tuple[str, str] | None = None
        self._way: _Way | None = None
        self._there_is_none = False
        self._looking = threading.Lock()
        client.meta.events.register("before-send.s3.PutObject", self._see)

    def put(self, key: str, body: bytes, *, headers: Mapping[str, str], sha256: bytes) -> int | None:
        """Put an object; the answer's status, or None where there is no answer, or the client has not shown the way yet."""
        if self._way is None or self._clock() < self._rests_until:
            return None
        way, url = self._way, f"{self._way.base_url}{quote(key)}"
        signed = _signed({"Host": way.host, **headers}, self._credentials.get_frozen_credentials(), way, target_of(url), sha256.hex())
        try:
            with self._session.answer("PUT", url, origin=way.base_url, headers=signed, timeout=self._timeout, body=body) as response:
                body_of(response, most_bytes=ANSWER_BYTES)
        except FAILURES:
            self.rest()
            return None
        return response.status

    @contextmanager
    def looking(self) -> Iterator[None]:
        """While nobody knows the way, one put is under way at a time, so that the client needs no more than one connection to show it."""
        ours = self._way is None and not self._there_is_none and self._looking.acquire(timeout=LOOKING_S)
        if ours and self._way is not None:
            self._looking.release()
            ours = False
        try:
            yield
        finally:
            if ours:
                self._looking.release()

    def rest(self) -> None:
        """A put has failed: leave it, and what comes for a while, to the client."""
        self._tell_retried()
        self._rests_until = self._clock() + REST_S

    def learn(self, key: str) -> None:
        """The client has put this object: the next ones may go the same way."""
        url, authorization = self._seen or ("", "")
        signed, path = _SIGNED.match(authorization), f"/{quote(key)}"
        if not url.endswith(path):  # it was another thread's
            return
        if signed:
            self._way = _Way(base_url=url[: 1 - len(path)], host=urlsplit(url).netloc, region=signed[1])
        else:
            self._there_is_none = True

    def _see(self, request: Any, **_: Any) -> None:
        authorization = request.headers.get("Authorization", "")
        self._seen = request.url, authorization.decode() if isinstance(authorization, bytes) else authorization


def _signed(headers: dict[str, str], credentials: ReadOnlyCredentials, way: _Way, path: str, sha256: str) -> dict[str, str]:
    """The headers of a put, with a signature of version 4 over all of them but the user agent."""
    signer, request = SigV4Auth(credentials, "s3", way.region), AWSRequest()
    request.context["timestamp"] = get_current_datetime().strftime(SIGV4_TIMESTAMP)
    headers |= {"X-Amz-Content-SHA256": sha256, "X-Amz-Date": request.context["timestamp"]}
    if credentials.token:
        headers["X-Amz-Security-Token"] = credentials.token
    fields = sorted((name.lower(), value) for name, value in headers.items() if name != "User-Agent")
    names = ";".join(name for name, _ in fields)
    canonical = "\n".join(("PUT", path, "", *(f"{name}:{value}" for name, value in fields), "", names, sha256))
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    return headers | {"Authorization": f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}"}
