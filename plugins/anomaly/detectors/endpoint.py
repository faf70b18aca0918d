"""Sends one request to a detector, bounded in bytes and time, without retries."""

from __future__ import annotations

import time
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import requests
from urllib3 import Timeout

from anomaly.backoff import exhausted_for_s
from anomaly.detectors.errors import NO_SECRETS, from_answer, from_exception, from_response
from anomaly.detectors.options import misconfigured
from anomaly.errors import DetectorAnswerInvalid
from anomaly.models.answers import Answer
from anomaly.transport.session import REQUEST_ERRORS, PooledSession, hide_query_strings, read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from urllib3 import BaseHTTPResponse

    from anomaly.detectors.base import DetectorConnection
    from anomaly.detectors.redaction import Redaction
    from anomaly.detectors.request_body import Body
    from anomaly.models.answers import Verdict
    from anomaly.models.records import Image
    from anomaly.settings import Settings

ERROR_BODY_BYTES = 64 * 1024
HEALTH = {"reference": "/readyz"}
"""Path of the health check of a detector, by dialect."""


def session(settings: Settings, base_url: str) -> PooledSession:
    """Return a session for one detector, with a connection for each of its slots.

    It does not retry, because a retry must wait for the throttle and for Retry-After. The environment's proxies are read
    once, here, and not at each request. ~/.netrc is not read.
    """
    hide_query_strings()
    return PooledSession(
        origins=1,
        connections=settings.detector_slots,
        deadline_s=settings.detector_deadline_s,
        proxies=requests.utils.get_environ_proxies(base_url),
    )


def health(base_url: str, dialect: object, settings: Settings) -> int | None:
    """Return the status of the detector's health check; None if its dialect has none or it does not respond."""
    if dialect not in HEALTH:
        return None
    timeout = settings.detector_connect_timeout_s, settings.detector_read_timeout_s
    with session(settings, base_url) as opened:
        try:
            return opened.get(base_url.rstrip("/") + HEALTH[str(dialect)], timeout=timeout, allow_redirects=False).status_code
        except requests.RequestException:
            return None


class Reply(NamedTuple):
    """An answer, not parsed yet."""

    raw: bytes
    status: int
    headers: Mapping[str, str]
    latency_ms: float


class Endpoint:
    """The URL, headers and session to which a dialect posts."""

    def __init__(
        self, session: PooledSession, settings: Settings, *, url: str, headers: Mapping[str, str], redaction: Redaction = NO_SECRETS
    ) -> None:
        parts = urlsplit(url)
        self._origin = f"{parts.hostname}{parts.path}"
        self._session = session
        self._redaction = redaction
        self._timeout = Timeout(connect=settings.detector_connect_timeout_s, read=settings.detector_read_timeout_s)
        self._answer_max_bytes = settings.detector_answer_max_bytes
        request = requests.PreparedRequest()
        try:
            request.prepare(method="POST", url=url, headers={"User-Agent": "anomaly", **headers}, hooks={})
            "".join([*headers, *headers.values()]).encode("latin-1")  # as they are sent
        except (requests.RequestException, UnicodeError) as exc:
            raise misconfigured(f"its address or one of its headers is not valid ({type(exc).__name__})") from None
        self._url = request.url or ""
        self._headers = {name: value for name, value in request.headers.items() if name != "Content-Length"}

    def ask(self, image: Image, body: Body, *, read: Callable[[bytes], Verdict], idempotency_key: str) -> Answer:
        """Send one request about *image* and return the answer, whose verdict is read by *read*.

        Raises:
            AnomalyError: there is no answer, none with a status of 2xx, or none that *read* can read; see `detectors.errors`.
        """
        reply = self.post(*body(image), idempotency_key=idempotency_key)
        try:
            if len(reply.raw) > self._answer_max_bytes:
                raise DetectorAnswerInvalid(f"an answer of more than {self._answer_max_bytes} bytes")  # noqa: TRY301  # as unreadable as others
            verdict = read(reply.raw)
        except DetectorAnswerInvalid as exc:
            raise from_answer(
                exc, reply.headers, reply.raw, origin=self._origin, redaction=self._redaction, image_sha256=image.sha256
            ) from exc.__cause__  # exc may quote a secret
        return Answer(raw=reply.raw, verdict=verdict, latency_ms=reply.latency_ms, pause_s=exhausted_for_s(reply.headers))

    def post(self, body: bytes, content_type: str, *, idempotency_key: str) -> Reply:
        """Send one request and return its answer, or a little more than the permitted bytes of a larger one.

        Raises:
            AnomalyError: there is no answer, or none with a status of 2xx; see `detectors.errors`.
        """
        headers = {**self._headers, "Content-Type": content_type, "Idempotency-Key": idempotency_key}
        began = time.monotonic()
        try:
            with self._session.open_response(
                "POST", self._url, origin=self._origin, headers=headers, timeout=self._timeout, body=body
            ) as response:
                raw = self._raw(response)
        except REQUEST_ERRORS as exc:
            raise from_exception(exc, origin=self._origin) from exc
        return Reply(raw, status=response.status, headers=response.headers, latency_ms=(time.monotonic() - began) * 1000)

    def redacted(self, raw: bytes) -> bytes:
        """Return an answer without the secrets that the connection sends."""
        return self._redaction.raw(raw)

    def _raw(self, response: BaseHTTPResponse) -> bytes:
        if response.status // 100 == 2:  # noqa: PLR2004  # a success
            return read_body(response, max_bytes=self._answer_max_bytes)
        body = read_body(response, max_bytes=ERROR_BODY_BYTES)
        raise from_response(response.status, response.headers, body, origin=self._origin, redaction=self._redaction)


def request_url(connection: DetectorConnection, path: str) -> str:
    """Return the connection's address followed by *path*.

    Raises:
        Misconfigured: the address is no HTTP URL, or holds credentials.
    """
    parts = urlsplit(connection.base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise misconfigured("its address must begin with http:// or https:// and name a host")
    if parts.username or parts.password:
        raise misconfigured("user and password belong in its login and password, not in its address")
    return connection.base_url.rstrip("/") + (f"/{path.lstrip('/')}" if path else "")


def authorization(connection: DetectorConnection, key_header: str) -> dict[str, str]:
    """Return the header with the connection's credentials, if it has any.

    Login and password are sent as Basic; a password alone is sent in *key_header*, which has the prefix Bearer if it is Authorization.
    """
    if not connection.password:
        return {}
    if connection.login:
        credentials = f"{connection.login}:{connection.password}".encode("utf-8", "surrogatepass")
        return {"Authorization": f"Basic {b64encode(credentials).decode()}"}
    return {key_header: f"Bearer {connection.password}" if key_header.lower() == "authorization" else connection.password}
