"""Sessions of requests that send directly over the connection pools of their adapter.

`Session.send` and `HTTPAdapter.send` choose the pool, look for certificates and wrap the response anew each time, which takes as much
processor time as the request itself. They also read a redirect's body to its end, however large, and keep cookies. Here the pool
is chosen once for each origin, by requests' own means, and the response is urllib3's.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ClosedPoolError, HeaderParsingError, HTTPError

from anomaly.transport.guard import with_deadline, with_guard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from urllib3 import BaseHTTPResponse, HTTPConnectionPool, Retry, Timeout

    from anomaly.transport.guard import Network

REQUEST_ERRORS = (HTTPError, OSError)
"""Raised by `PooledSession.open_response` and while a body is read, besides our own errors."""
READ_BYTES = 128 * 1024


class PooledSession(requests.Session):
    """A session for as many threads as it has *connections* to each of its *origins*.

    Of the environment it reads REQUESTS_CA_BUNDLE alone; it does not read ~/.netrc.

    Args:
        origins: origins whose connections are kept open.
        connections: connections to each of them that are kept open.
        deadline_s: time for a response, headers included; one read timeout may be added.
        proxies: proxy by scheme. Behind a proxy the deadline holds too, but the proxy has to guard addresses: it resolves the names.
        retries: urllib3's policy for retries.
        only_public: refuse addresses that are neither public nor in *allow_networks*.
    """

    def __init__(
        self,
        *,
        origins: int,
        connections: int,
        deadline_s: float,
        proxies: Mapping[str, str],
        retries: Retry | int = 0,
        only_public: bool = False,
        allow_networks: Sequence[Network] = (),
    ) -> None:
        super().__init__()
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self.proxies = dict(proxies)
        self._adapter = _Adapter(deadline_s, pool_connections=origins, pool_maxsize=connections, max_retries=retries)
        if only_public:
            manager = self._adapter.poolmanager
            manager.pool_classes_by_scheme = with_guard(manager.pool_classes_by_scheme, deadline_s, allow_networks)
        self.mount("http://", self._adapter)
        self.mount("https://", self._adapter)
        self._origins = origins
        self._pools: dict[str, HTTPConnectionPool] = {}

    @contextmanager
    def open_response(
        self, method: str, url: str, *, origin: str, headers: Mapping[str, str], timeout: Timeout, body: bytes | None = None
    ) -> Iterator[BaseHTTPResponse]:
        """Send a request to an encoded URL that has a path. The unread rest of the response's body is discarded on exit."""
        response = self._send(method, url, origin, headers=headers, timeout=timeout, body=body)
        try:
            yield response
        finally:
            response.close()
            response.release_conn()

    def _send(self, method: str, url: str, origin: str, **request: Any) -> BaseHTTPResponse:
        target = self._adapter.request_url(_prepared(method, url), self.proxies) if self.proxies else request_target(url)
        while True:
            pool = self._pools.get(origin) or self._choose_pool(_prepared(method, url), origin)
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

    def _choose_pool(self, request: requests.PreparedRequest, origin: str) -> HTTPConnectionPool:
        verify = self.verify if self.verify is not None else True
        pool: Any = self._adapter.get_connection_with_tls_context(request, verify, proxies=self.proxies)
        self._adapter.cert_verify(pool, request.url or "", verify, None)  # type: ignore[no-untyped-call]  # the stubs leave it out
        if len(self._pools) >= self._origins:
            self._pools.clear()
        chosen: HTTPConnectionPool = pool
        self._pools[origin] = chosen
        return chosen


class _Adapter(HTTPAdapter):
    """An adapter whose responses have a deadline, behind a proxy too."""

    def __init__(self, deadline_s: float, **kwargs: Any) -> None:
        self._deadline_s = deadline_s
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._set_deadline(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not known:
            self._set_deadline(manager)
        return manager

    def _set_deadline(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = with_deadline(manager.pool_classes_by_scheme, self._deadline_s)


def hide_query_strings() -> None:
    """Keep query strings and headers out of urllib3's log from now on: they hold signatures and keys."""
    for name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_without_secrets)


def _without_secrets(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(_plain(arg) for arg in record.args)
    record.exc_info = None  # it may quote the head of a response
    return True


def _plain(arg: object) -> object:
    if isinstance(arg, HeaderParsingError):
        return type(arg).__name__
    return arg.partition("?")[0] if isinstance(arg, str) else arg


def _prepared(method: str, url: str) -> requests.PreparedRequest:
    request = requests.PreparedRequest()
    request.method, request.url = method, url
    return request


def request_target(url: str) -> str:
    """Return path and query of a URL that has a path."""
    return url[url.index("/", url.index("//") + 2) :].partition("#")[0]


def read_body(response: BaseHTTPResponse, *, max_bytes: int) -> bytes:
    """Return the decoded body, or a little more than *max_bytes* of a larger one."""
    length = response.length_remaining
    if length is not None and length <= max_bytes and "Content-Encoding" not in response.headers:
        return response.read(decode_content=False)  # into one piece of memory, without a copy
    pieces, size = [], 0
    while size <= max_bytes and (piece := response.read1(READ_BYTES, decode_content=True)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
