"""One request to a detector: bounded in bytes and time, never retried here."""

from __future__ import annotations

import time
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import requests
from urllib3 import Timeout

from anomaly.backoff import exhausted_for_s
from anomaly.detectors import errors as error_map
from anomaly.detectors.options import wrong
from anomaly.errors import DetectorAnswerInvalid
from anomaly.transport.session import REQUEST_ERRORS, PooledSession, hide_query_strings, read_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from urllib3 import BaseHTTPResponse

    from anomaly.detectors.base import DetectorConnection
    from anomaly.settings import Settings

ERROR_BODY_BYTES = 64 * 1024


def session(settings: Settings, base_url: str) -> PooledSession:
    """Return a session for one detector, its pool as large as the detector's slots.

    It does not retry: that would go past the throttle, and sleep through whatever Retry-After says. Proxies of the
    environment are read once, here, instead of at every request; ~/.netrc is not read.
    """
    hide_query_strings()
    return PooledSession(
        origins=1,
        connections=settings.detector_slots,
        deadline_s=settings.detector_deadline_s,
        proxies=requests.utils.get_environ_proxies(base_url),
    )


class Reply(NamedTuple):
    """An answer as it came."""

    raw: bytes
    latency_ms: float
    pause_s: float
    """Until a rate limit that is used up is reset."""


class Endpoint:
    """The URL, headers and session to which a dialect posts."""

    def __init__(self, session: PooledSession, settings: Settings, *, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self.where = f"{parts.hostname}{parts.path}"
        self._session = session
        self._timeout = Timeout(connect=settings.detector_connect_timeout_s, read=settings.detector_read_timeout_s)
        self._answer_max_bytes = settings.detector_answer_max_bytes
        request = requests.PreparedRequest()
        try:
            request.prepare(method="POST", url=url, headers={"User-Agent": "anomaly", **headers}, hooks={})
        except (requests.RequestException, UnicodeError) as exc:
            raise wrong(f"its address or one of its headers is not valid ({type(exc).__name__})") from None
        self._url = request.url or ""
        self._headers = {name: value for name, value in request.headers.items() if name != "Content-Length"}

    def post(self, body: bytes, content_type: str, *, idempotency_key: str) -> Reply:
        """Send one request; return what a 2xx has brought."""
        headers = {**self._headers, "Content-Type": content_type, "Idempotency-Key": idempotency_key}
        began = time.monotonic()
        try:
            with self._session.open_response(
                "POST", self._url, origin=self.where, headers=headers, timeout=self._timeout, body=body
            ) as response:
                raw = self._raw(response)
        except REQUEST_ERRORS as exc:
            raise error_map.from_exception(exc, where=self.where) from exc
        return Reply(raw, latency_ms=(time.monotonic() - began) * 1000, pause_s=exhausted_for_s(response.headers))

    def _raw(self, response: BaseHTTPResponse) -> bytes:
        if response.status // 100 == 2:  # noqa: PLR2004  # a success
            raw = read_body(response, max_bytes=self._answer_max_bytes)
            if len(raw) > self._answer_max_bytes:
                raise DetectorAnswerInvalid(f"{self.where}: an answer of more than {self._answer_max_bytes} bytes")
            return raw
        said = read_body(response, max_bytes=ERROR_BODY_BYTES)
        raise error_map.from_response(response.status, response.headers, said, where=self.where)


def url_of(connection: DetectorConnection, path: str) -> str:
    """Return the address of *path* at the connection's host.

    Raises:
        Misconfigured: the address is none of http or https.
    """
    parts = urlsplit(connection.base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise wrong("its address must begin with http:// or https:// and name a host")
    if parts.username or parts.password:
        raise wrong("user and password belong into its login and password, not into its address")
    return connection.base_url.rstrip("/") + (f"/{path.lstrip('/')}" if path else "")


def authorization(connection: DetectorConnection, key_header: str) -> dict[str, str]:
    """Login and password as Basic, a password alone in *key_header*, as Bearer where that is Authorization."""
    if not connection.password:
        return {}
    if connection.login:
        return {"Authorization": "Basic " + b64encode(f"{connection.login}:{connection.password}".encode()).decode()}
    return {key_header: f"Bearer {connection.password}" if key_header.lower() == "authorization" else connection.password}
