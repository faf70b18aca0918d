"""Sessions of requests that send straight over the pools of their adapter.

`Session.send` and its adapter's `send` choose the pool, look for the certificates and dress the answer anew each time, which is
half of a request's processor time. They also read a redirect's body to its end, however large, and keep cookies. Here the pool is
chosen once for each origin, by requests' own means, and the answer is urllib3's.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ClosedPoolError, HTTPError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Retry, Timeout

FAILURES = (HTTPError, OSError)
"""What `answer` and the reading of its body raise, besides our own errors."""
PIECE_BYTES = 128 * 1024


class StraightSession(requests.Session):
    """For as many threads as it keeps *connections*, to each of so many *origins*.

    It reads neither ~/.netrc nor, but for REQUESTS_CA_BUNDLE, the environment.

    Args:
        pools: classes of pools by scheme.
    """

    def __init__(
        self, *, pools: dict[str, type[Any]], origins: int, connections: int, proxies: Mapping[str, str], retries: Retry | int = 0
    ) -> None:
        super().__init__()
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self.proxies = dict(proxies)
        self._adapter = HTTPAdapter(pool_connections=origins, pool_maxsize=connections, max_retries=retries)
        self._adapter.poolmanager.pool_classes_by_scheme = pools
        self.mount("http://", self._adapter)
        self.mount("https://", self._adapter)
        self._origins = origins
        self._pools: dict[str, HTTPConnectionPool] = {}

    @contextmanager
    def answer(
        self, method: str, url: str, *, origin: str, headers: Mapping[str, str], timeout: Timeout, body: bytes | None = None
    ) -> Iterator[BaseHTTPResponse]:
        """Send a request to an address that is encoded and has a path; what of the answer is not read by the end is dropped."""
        response = self._sent(method, url, origin, headers=headers, timeout=timeout, body=body)
        try:
            yield response
        finally:
            response.close()
            response.release_conn()

    def _sent(self, method: str, url: str, origin: str, **request: Any) -> BaseHTTPResponse:
        target = self._adapter.request_url(_prepared(method, url), self.proxies) if self.proxies else target_of(url)
        while True:
            pool = self._pools.get(origin) or self._chosen(_prepared(method, url), origin)
            try:
                return pool.urlopen(
                    method,
                    target,
                    **request,
                    retries=self._adapter.max_retries,
                    redirect=False,
                    assert_same_host=False,
                    preload_content=False,
                    decode_content=False,
                )
            except ClosedPoolError:  # another origin took its place, and nothing was sent
                self._pools.pop(origin, None)

    def _chosen(self, request: requests.PreparedRequest, origin: str) -> HTTPConnectionPool:
        verify = self.verify if self.verify is not None else True
        pool: Any = self._adapter.get_connection_with_tls_context(request, verify, proxies=self.proxies)
        self._adapter.cert_verify(pool, request.url or "", verify, None)  # type: ignore[no-untyped-call]  # the stubs leave it out
        if len(self._pools) >= self._origins:
            self._pools.clear()
        chosen: HTTPConnectionPool = pool
        self._pools[origin] = chosen
        return chosen


def _prepared(method: str, url: str) -> requests.PreparedRequest:
    request = requests.PreparedRequest()
    request.method, request.url = method, url
    return request


def target_of(url: str) -> str:
    """Path and query of an address that has a path."""
    return url[url.index("/", url.index("//") + 2) :].partition("#")[0]


def body_of(response: BaseHTTPResponse, *, most_bytes: int) -> bytes:
    """The decoded body, or a little more than *most_bytes* of it where it is larger."""
    length = response.length_remaining
    if length is not None and length <= most_bytes and "Content-Encoding" not in response.headers:
        return response.read(decode_content=False)  # into one piece of memory, without a copy
    pieces, size = [], 0
    while size <= most_bytes and (piece := response.read1(PIECE_BYTES, decode_content=True)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
