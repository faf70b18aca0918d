"""Parse the addresses of images, which come from data and from redirects."""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from urllib.parse import unquote_to_bytes, urljoin

import requests
from urllib3.exceptions import HTTPError
from urllib3.util import Url, parse_url

from anomaly.errors import AddressBlocked
from anomaly.escaping import escaped

ADDRESS_MAX_BYTES = 8192
DEFAULT_PORTS = {"http": 80, "https": 443}
SHOWN_MAX = 200
_AROUND = " \t\r\n\f\v"
"""Stripped from both ends of an address, as browsers do."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_NAME_MAX = 253
_SCHEME = re.compile(r"(https?:[/\\]*|[a-z][a-z0-9+.-]*:[/\\]{2,}|[/\\]*)([^/?#\\]*)(.*)", re.DOTALL | re.IGNORECASE)
_PLAIN_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
"""The last label of a host that can only be an IPv4 address, in any of its spellings."""


@dataclass(frozen=True, slots=True)
class Address:
    """A valid http or https URL, encoded, without user, password and fragment."""

    url: str = field(repr=False)
    origin: str = field(repr=False)
    """scheme://host:port. Its host may be the end of a password that holds an @."""
    port: int
    shown: str
    """The URL without its secrets, for logs and messages."""
    authorization: str | None = field(default=None, repr=False)
    """Basic authentication with the URL's user and password. It is for this origin alone."""

    def __str__(self) -> str:
        return self.shown


def parse(text: str | None, *, base: Address | None = None) -> Address:
    """Return the address that *text* is, or is relative to *base*. A redirect within an origin keeps its authorization.

    Raises:
        AddressBlocked: it is none of http or https, or can name no host.
    """
    if text is None:
        raise AddressBlocked("there is no address")
    stripped = text.strip(_AROUND)
    try:
        if len(stripped.encode()) > ADDRESS_MAX_BYTES:
            raise AddressBlocked(f"{redacted(stripped)}…: longer than {ADDRESS_MAX_BYTES} bytes")
        address = _parsed(urljoin(base.url, stripped) if base else stripped)
    except (OSError, ValueError, HTTPError):
        raise AddressBlocked(f"{redacted(stripped)}: not a valid http or https address") from None
    _, authority, behind = _split(stripped)
    is_odd = ":" in authority and not _PLAIN_HOST.fullmatch(authority)
    if is_odd and "@" in (behind if address.authorization else stripped):  # what is taken for a path may be a password
        address = replace(address, shown=f"{address.origin.partition(':')[0]}://***")
    if base and not address.authorization and address.origin == base.origin:
        return replace(address, authorization=base.authorization)
    return address


def _parsed(text: str) -> Address:
    if _CONTROL.search(text):
        raise ValueError("a control character")
    if "\\" in re.split("[/?#]", text.partition("//")[2], maxsplit=1)[0]:
        raise ValueError("a backslash, which some clients take for the end of the host")
    prepared = requests.PreparedRequest()
    prepared.prepare_url(text, None)
    parts = parse_url(prepared.url or "")  # the parser that chooses the pool
    port = port_of(parts)
    host = parts.host or ""
    _check_host(host)
    authorization = None
    if parts.auth:
        authorization = "Basic " + b64encode(unquote_to_bytes(parts.auth if ":" in parts.auth else f"{parts.auth}:")).decode()
    url = parts._replace(auth=None, fragment=None).url
    return Address(url, f"{parts.scheme}://{host}:{port}", port, redacted(url), authorization)


def _check_host(host: str) -> None:
    """Raise ValueError or OSError if no name server and no network can know the host."""
    if host.startswith("["):
        if "%" in host:
            raise ValueError("a zone has a meaning on one machine only")
        IPv6Address(host[1:-1])
        return
    labels = host.removesuffix(".").split(".")
    if len(host) > _NAME_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a name")
    if _NUMBER.fullmatch(labels[-1]):
        socket.inet_aton(host)


def port_of(parts: Url) -> int:
    """Return the port of an http or https URL.

    Raises:
        ValueError: it is another kind of URL, or names no host.
    """
    if parts.scheme not in DEFAULT_PORTS or not parts.host:
        raise ValueError("neither http nor https, or without a host")
    return DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port


def redacted(url: str) -> str:
    """Return *url* in one short line without user, password, query and fragment, which may hold secrets, for logs and messages.

    A password may contain unencoded characters that end a host. So if an @ follows such a character, no more than the scheme is
    shown, unless what comes before it is a plain name.
    """
    scheme, authority, behind = _split(url)
    if "@" in behind and not _PLAIN_HOST.fullmatch(authority):
        shown = f"{scheme}***"
    else:
        shown = f"{scheme}{authority.rpartition('@')[2]}{re.split('[?#]', behind, maxsplit=1)[0]}"
    return escaped(shown[:SHOWN_MAX])


def _split(url: str) -> tuple[str, str, str]:
    """Return the scheme with its slashes, what may be user, password, host and port, and the rest."""
    scheme, authority, behind = _SCHEME.fullmatch(url).groups()  # type: ignore[union-attr]  # it matches any text
    return scheme, authority, behind
