"""Connections for HTTP that end by a deadline and, where asked, reach no address that is not allowed.

A socket's read timeout only bounds the silence between two pieces: a host that sends a byte every 29 s would hold a
worker for ever. Here a response, headers included, has a deadline too. Heads of requests, and those of answers that are plain,
are written and read by hand (heads.py), which urllib3 allows its connections, and needs a fraction of the time.

The guard looks the name up, judges each address, and connects to what it judged instead of the name. So nothing can
change in between, not even a SYN reaches a forbidden network, and a redirect is judged like any other request. SNI,
certificate check, proxies and pool sizes stay urllib3's.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import logging
import socket
import time
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from anomaly.errors import AddressBlocked
from anomaly.transport import heads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    Network = IPv4Network | IPv6Network

_HTTP_1_1 = 11
_BUFFER_BYTES = 32 * 1024  # headers and a small body in one call
TOGETHER_BYTES = 256 * 1024
"""A larger body is not worth its copy."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Global by the standard library, yet tunnels into IPv4, or local in an older way.
_NOT_PUBLIC = tuple(ipaddress.ip_network(net) for net in ("2002::/16", "2001::/32", "192.88.99.0/24", "fec0::/10"))


def pool_classes(*, deadline_s: float, only_public: bool, allow_networks: Sequence[Network] = ()) -> dict[str, type[Any]]:
    """Pools by scheme, for a `PoolManager`, whose responses end within *deadline_s* and one read timeout.

    With *only_public*, a connection to an address that is neither public nor in *allow_networks* raises AddressBlocked.
    """
    response = type("Response", (_Response,), {"deadline_s": deadline_s})
    ours = {"response_class": response, "only_public": only_public, "allow_networks": tuple(allow_networks)}
    pools = ("http", _Connection, HTTPConnectionPool), ("https", _SecureConnection, HTTPSConnectionPool)
    return {scheme: type(pool.__name__, (pool,), {"ConnectionCls": type(con.__name__, (con,), ours)}) for scheme, con, pool in pools}


def is_allowed(address: str, allow_networks: Sequence[Network]) -> bool:
    """Whether *address* is public, or in one of the networks."""
    ip = _meant(ipaddress.ip_address(address.partition("%")[0]))
    if any(ip in network for network in allow_networks):
        return True
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not any(ip in network for network in _NOT_PUBLIC)


def hide_query_strings() -> None:
    """From now on urllib3 logs no query string: that is where signatures and keys are."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_without_query)


def _without_query(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True


def _meant(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, if it stands for one."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        return ip.ipv4_mapped or ip
    return ip


class _UntilDeadline(io.RawIOBase):
    """A socket's reading end that times out at a point in monotonic time."""

    def __init__(self, raw: io.RawIOBase, deadline: float) -> None:
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._deadline:
            raise TimeoutError("the response was not over by its deadline")
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    deadline_s: ClassVar[float]
    fields: HTTPHeaderDict

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        raw = self.fp.detach()
        self.fp = io.BufferedReader(_UntilDeadline(raw, time.monotonic() + self.deadline_s), _BUFFER_BYTES)

    def begin(self) -> None:
        """Read the head: by hand if it is a plain one, else as the standard library does."""
        head = heads.read(self.fp.peek(1))
        if head is None:
            super().begin()
            self.fields = HTTPHeaderDict((name, str(value)) for name, value in self.headers.items())
            return
        self.fp.read(head.size)
        self.version, self.status, self.reason = _HTTP_1_1, head.status, head.reason
        self.code = head.status
        self.chunked, self.will_close, self.length = False, False, head.body_bytes
        self.fields = HTTPHeaderDict(head.fields)
        self.headers = self.msg = self.fields  # type: ignore[assignment]  # requests looks for cookies in here


class _Connection(HTTPConnection):
    """urllib3 opens the socket; what goes over it, and comes back, is written and read in here."""

    only_public: ClassVar[bool]
    allow_networks: ClassVar[tuple[Network, ...]]
    response_class: type[_Response]
    _asked: tuple[str, str, dict[str, Any]] = ("", "", {})

    def request(  # type: ignore[override]  # less than urllib3 allows: a body is bytes
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
        **asked: Any,
    ) -> None:
        """Head and body leave together: one system call and one wake-up of the server less than one after the other."""
        if chunked or method == "HEAD":  # nobody here asks so, and heads.read takes a length for that of what follows
            raise NotImplementedError("no body in chunks, and no HEAD")
        if self.sock is None:
            self.connect()
        self._wait_at_most_timeout()
        self._asked = method, url, asked
        given = {name.lower() for name in headers or ()}
        fields = {} if "host" in given else {"Host": self._host_of(url)}
        if "accept-encoding" not in given:
            fields["Accept-Encoding"] = "identity"
        if body is not None:
            fields["Content-Length"] = str(len(body))
        head = heads.written(method, url, (fields | dict(headers or {})).items())
        if body and len(body) > TOGETHER_BYTES:
            self.sock.sendall(head)
            self.sock.sendall(body)
        else:
            self.sock.sendall(head + body if body else head)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as with urllib3's own
        """The answer, once its head is there."""
        method, url, asked = self._asked
        self._wait_at_most_timeout()
        response = self.response_class(self.sock, method=method)
        try:
            response.begin()
        except BaseException:
            response.close()
            self.close()
            raise
        if response.will_close:
            self.close()  # the socket stays open until the response is
        return HTTPResponse(
            body=response,
            headers=response.fields,
            status=response.status,
            version=response.version,
            reason=response.reason,
            original_response=response,
            request_method=method,
            request_url=url,
            **asked,
        )

    def _wait_at_most_timeout(self) -> None:
        if self.sock.gettimeout() != self.timeout:  # setting it is a system call
            self.sock.settimeout(self.timeout)

    def _host_of(self, url: str) -> str:
        if not url.startswith("/"):  # as to a proxy
            return urlsplit(url).netloc.rpartition("@")[2]
        host, port = (self._tunnel_host, self._tunnel_port) if self._tunnel_host else (self.host, self.port)
        name = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return name if port in {None, self.default_port} else f"{name}:{port}"

    def _new_conn(self) -> socket.socket:
        if not self.only_public:
            return super()._new_conn()
        name, failure = self._dns_host, None
        try:
            for address in self._judged_addresses(name):
                self.host = address
                try:
                    return super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError) as exc:
                    failure = exc
        finally:
            self.host = name  # certificate and Host header belong to the name
        raise failure or AddressBlocked(f"{self.host} leads to an address that images may not come from (see allow_networks)")

    def _judged_addresses(self, name: str) -> list[str]:
        try:
            found = socket.getaddrinfo(name.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as exc:
            raise NameResolutionError(self.host, self, socket.gaierror(str(exc))) from exc
        addresses = dict.fromkeys(str(info[4][0]) for info in found)
        return [address for address in addresses if is_allowed(address, self.allow_networks)]


class _SecureConnection(_Connection, HTTPSConnection):
    pass
