"""One request to a detector: bounded in bytes and time, never retried here."""

from __future__ import annotations

import os
import time
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from anomaly.backoff import used_up_s
from anomaly.detectors import error_map
from anomaly.detectors.extras import wrong
from anomaly.errors import DetectorAnswerInvalid
from anomaly.sockets import hide_query_strings, pool_classes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly.detectors.protocol import DetectorConnection
    from anomaly.settings import Settings

PIECE_BYTES = 64 * 1024
ERROR_BODY_BYTES = 64 * 1024


def session(settings: Settings, base_url: str) -> requests.Session:
    """A session for one detector, its pool as large as the detector's slots.

    It does not retry: that would go past the throttle, and sleep through whatever Retry-After says. Proxies of the
    environment are read once, here, instead of at every request; ~/.netrc is not read.
    """
    hide_query_strings()
    made = requests.Session()
    made.proxies = dict(requests.utils.get_environ_proxies(base_url))
    made.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=settings.detector_slots, max_retries=0)
    adapter.poolmanager.pool_classes_by_scheme = pool_classes(deadline_s=settings.detector_deadline_s, only_public=False)
    made.mount("http://", adapter)
    made.mount("https://", adapter)
    return made


class Reply(NamedTuple):
    """An answer as it came."""

    raw: bytes
    latency_ms: float
    pause_s: float
    """Until a rate limit that is used up is reset."""


class Endpoint:
    """Where a dialect posts to."""

    def __init__(self, session: requests.Session, settings: Settings, *, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self.where = f"{parts.hostname}{parts.path}"
        self._session = session
        self._timeout = settings.detector_connect_timeout_s, settings.detector_read_timeout_s
        self._answer_max_bytes = settings.detector_answer_max_bytes
        self._request = requests.PreparedRequest()  # made once, since most of a request's CPU time is in making it
        try:
            self._request.prepare(method="POST", url=url, headers={"User-Agent": "anomaly", **headers}, hooks={})
        except (requests.RequestException, UnicodeError) as exc:
            raise wrong(f"its address or one of its headers is not valid ({type(exc).__name__})") from None

    def post(self, body: bytes, content_type: str, *, idempotency_key: str) -> Reply:
        """Send one request; return what a 2xx has brought."""
        request = self._request.copy()
        request.body = body
        request.headers.update({"Content-Type": content_type, "Content-Length": str(len(body)), "Idempotency-Key": idempotency_key})
        began = time.monotonic()
        try:
            with self._send(request) as response:
                raw = self._answer(response)
        except (requests.RequestException, HTTPError) as exc:
            raise error_map.from_exception(exc, where=self.where) from exc
        return Reply(raw, latency_ms=(time.monotonic() - began) * 1000, pause_s=used_up_s(response.headers))

    def _send(self, request: requests.PreparedRequest) -> requests.Response:
        """The adapter sends it: `Session.send` reads a redirect's body to its end, however large, and keeps cookies."""
        of = self._session
        return of.get_adapter(request.url or "").send(
            request, stream=True, timeout=self._timeout, verify=of.verify or True, proxies=of.proxies
        )

    def _answer(self, response: requests.Response) -> bytes:
        if response.status_code // 100 == 2:  # noqa: PLR2004  # a success
            raw = _read(response, self._answer_max_bytes)
            if len(raw) > self._answer_max_bytes:
                raise DetectorAnswerInvalid(f"{self.where}: an answer of more than {self._answer_max_bytes} bytes")
            return raw
        raise error_map.from_response(response.status_code, response.headers, _read(response, ERROR_BODY_BYTES), where=self.where)


def _read(response: requests.Response, limit: int) -> bytes:
    """The body, or a little more than *limit* bytes of it."""
    pieces, size = [], 0
    while size <= limit and (piece := response.raw.read1(PIECE_BYTES, decode_content=True)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def url_of(connection: DetectorConnection, path: str) -> str:
    """The connection's address and *path*.

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
