"""Connections that end by a deadline, leave no bytes behind and, where asked, reach public addresses only.

A socket's read timeout bounds the silence between two pieces only: a host that sends a byte every 29 s would hold a worker
forever. Here a response, headers included, has a deadline too.

The guard resolves the name, checks each address, and connects to an address that it checked. So nothing can change in between,
not even a SYN reaches a forbidden network, and a redirect is checked like any other request. Everything else stays urllib3's.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import re
import socket
import time
from typing import TYPE_CHECKING, Any, ClassVar

from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from anomaly.errors import AddressBlocked
from anomaly.transport.special_addresses import effective, is_public

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

    Network = IPv4Network | IPv6Network

_BUFFER_BYTES = 32 * 1024  # headers and a small body in one system call
_LENGTH = re.compile(r"[0-9]{1,18}")
_WITHOUT_BODY = frozenset({http.client.NO_CONTENT, http.client.NOT_MODIFIED})
INTERIM_MAX = 32
"""Informational responses before a response."""
ADDRESSES_MAX = 6
"""Addresses of a name that are tried."""


def with_deadline(pools: Mapping[str, type[Any]], deadline_s: float) -> dict[str, type[Any]]:
    """Return pool classes by scheme, derived from *pools*, whose responses end within *deadline_s* and one read timeout."""
    return _derived(pools, response_class=type("Response", (_Response,), {"deadline_s": deadline_s}))


def with_guard(pools: Mapping[str, type[Any]], deadline_s: float, allow_networks: Sequence[Network]) -> dict[str, type[Any]]:
    """Return pool classes by scheme, derived from *pools*, whose connections reach public addresses and *allow_networks* only.

    A connection to another address raises AddressBlocked. A name's addresses are tried for *deadline_s*.
    """
    return _derived(pools, _PublicOnly, deadline_s=deadline_s, allow_networks=tuple(allow_networks))


def _derived(pools: Mapping[str, type[Any]], *bases: type[Any], **members: Any) -> dict[str, type[Any]]:
    return {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": type("Connection", (*bases, pool.ConnectionCls), members)})
        for scheme, pool in pools.items()
    }


def is_allowed(address: str, allow_networks: Sequence[Network]) -> bool:
    """Return whether *address* is public or in one of the networks."""
    ip = effective(ipaddress.ip_address(address.partition("%")[0]))
    return any(ip in network for network in allow_networks) or is_public(ip)


def is_forbidden_literal(host: str, allow_networks: Sequence[Network]) -> bool:
    """Return whether *host* is an address in any of its spellings, and not a name, that is not allowed. Nothing is looked up."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return False
    return not all(is_allowed(str(info[4][0]), allow_networks) for info in found)


class _DeadlineReader(io.RawIOBase):
    """The reading end of a socket that times out at a point in monotonic time, and reads nothing once it is marked as ended."""

    def __init__(self, raw: io.RawIOBase, deadline: float) -> None:
        self._raw = raw
        self._deadline = deadline
        self.ended = False
        self.at_end = False
        """True once the peer has closed its side."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.ended:
            return 0
        if time.monotonic() > self._deadline:
            raise TimeoutError("the response was not complete by its deadline")
        read = self._raw.readinto(buffer)
        self.at_end = read == 0
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    deadline_s: ClassVar[float]

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._sock = sock
        self._reader = _DeadlineReader(self.fp.detach(), time.monotonic() + self.deadline_s)
        self.fp = io.BufferedReader(self._reader, _BUFFER_BYTES)

    def _read_status(self) -> tuple[str, int, str]:
        """Skip informational responses, all of them and not 100 alone. A 101 ends the protocol, so it is not skipped."""
        for _ in range(INTERIM_MAX):
            version, status, reason = super()._read_status()  # type: ignore[misc]  # the stubs leave it out
            if status // 100 != 1 or status == http.client.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {INTERIM_MAX} informational responses")

    def begin(self) -> None:
        """Read the head. A connection whose next bytes could belong to this response is closed after it.

        Raises:
            HTTPException: the head is incomplete, or does not state clearly where the body ends.
        """
        super().begin()
        if self._reader.at_end:  # a complete head is found without reading on
            raise http.client.RemoteDisconnected("the connection ended within the head of the response")
        lengths = {length.strip() for header in self.headers.get_all("Content-Length", []) for length in header.split(",")}
        codings = [coding.strip().lower() for coding in self.headers.get_all("Transfer-Encoding", [])]
        if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths) or codings not in ([], ["chunked"], ["identity"]):
            raise http.client.HTTPException("the length of the response is not clear")
        if lengths:  # stated once or not at all, for readers that compare it with the body
            del self.headers["Content-Length"]
            if not codings:
                self.headers["Content-Length"] = min(lengths)
                if self.length is None:  # stated twice in one header
                    self.length = int(min(lengths))
        # A 101 ends the protocol. Some servers send a body where there is none.
        if self.status // 100 == 1 or self.status in _WITHOUT_BODY or (lengths and codings):
            self.will_close = True

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]  # the stubs leave it out
        if size < 0:
            raise ValueError("a negative length of a chunk")
        return size

    def _check_close(self) -> bool:
        """Return whether the connection ends with the response: `close` counts in any place, also beside `keep-alive`."""
        closes = any("close" in header.lower() for header in self.headers.get_all("Connection", []))
        return closes or bool(super()._check_close())  # type: ignore[misc]  # the stubs leave it out

    def _close_conn(self) -> None:
        """End the body. Bytes that follow it belong to no response, so with any the connection is not used again."""
        self._reader.ended = True
        pending = getattr(self._sock, "pending", None)  # decrypted, but not read
        if self.fp.peek(1) or (pending and pending()):
            with contextlib.suppress(OSError):  # the peer has closed it
                self._sock.shutdown(socket.SHUT_RDWR)  # the pool closes a connection that is readable before its next request
        super()._close_conn()  # type: ignore[misc]  # the stubs leave it out


class _PublicOnly(HTTPConnection):
    deadline_s: ClassVar[float]
    allow_networks: ClassVar[tuple[Network, ...]]

    def _new_conn(self) -> socket.socket:
        """Connect to the first allowed address that accepts, of a few. All of them share the deadline."""
        name, timeout, failure = self._dns_host, self.timeout, None
        ends_at = time.monotonic() + self.deadline_s
        try:
            for address in self._allowed_addresses(name)[:ADDRESSES_MAX]:
                left_s = ends_at - time.monotonic()
                if left_s <= 0:
                    break
                self.host = address
                self.timeout = min(timeout, left_s) if timeout else left_s
                try:
                    return super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError) as exc:
                    failure = exc
        finally:
            self.host, self.timeout = name, timeout  # certificate and Host header belong to the name
        blocked = f"{self.host} leads to an address that images may not come from (see allow_networks)"
        raise failure or AddressBlocked(blocked, by_network=True)

    def _allowed_addresses(self, name: str) -> list[str]:
        try:
            found = socket.getaddrinfo(name.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as exc:
            raise NameResolutionError(self.host, self, socket.gaierror(str(exc))) from exc
        addresses = dict.fromkeys(str(info[4][0]) for info in found)
        return [address for address in addresses if is_allowed(address, self.allow_networks)]
