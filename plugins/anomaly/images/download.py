"""Downloads images: safely, since the addresses come from data, and within bounds of bytes, pixels and time."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from ipaddress import ip_network
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

import requests
from urllib3 import Timeout

from anomaly.errors import AddressBlocked, ImageDenied, ImageNotFound, ImageTooLarge, ImageUnavailable, Misconfigured
from anomaly.images.retry import RETRIED, ImageRetry, Waits
from anomaly.images.validation import checked
from anomaly.transport.guard import hide_query_strings, pool_classes
from anomaly.transport.session import FAILURES, StraightSession, body_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from ipaddress import IPv4Network, IPv6Network

    from urllib3 import BaseHTTPResponse

    from anomaly.models.records import Image
    from anomaly.settings import Settings

PIECE_BYTES = 128 * 1024
REDIRECTS_MAX = 5
HOSTS = 16
"""Whose connections are kept open."""
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "anomaly"}
_GONE = frozenset({404, 410})
_FOR_NOW = frozenset({408, 425, 429})
_EXTRAS = {"headers": dict, "hosts": list, "allow_networks": list, "proxy": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRules:
    """What the connection `anomaly_images` says about image hosts."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    origins: frozenset[str] = frozenset()
    """scheme://host:port of those that get the headers, so that none travels to another host or unencrypted by surprise."""
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that are not public and may be asked nevertheless."""
    proxy: str | None = field(default=None, repr=False)
    """With one, it is the proxy that has to guard: the address of the image host is not seen here."""

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any], *, host: str | None = None) -> Self:
        """Read the connection's extra; *host*, and each of its `hosts`, is https unless it starts with http://.

        Raises:
            Misconfigured: an extra is unknown or of a wrong kind.
        """
        for name, value in extra.items():
            if name not in _EXTRAS or not isinstance(value, _EXTRAS[name]):
                raise Misconfigured(f"connection anomaly_images: the extra {name!r} is unknown or of a wrong kind; there are {_kinds()}")
        try:
            networks = tuple(ip_network(network) for network in extra.get("allow_networks", ()))
            origins = frozenset(
                origin_of(name if "://" in name else f"https://{name}") for name in (*extra.get("hosts", ()), *([host] if host else ()))
            )
        except (ValueError, TypeError) as exc:
            raise Misconfigured(f"connection anomaly_images: {exc}") from exc
        headers = {str(name): str(value) for name, value in extra.get("headers", {}).items()}
        return cls(headers=headers, origins=origins, allow_networks=networks, proxy=extra.get("proxy"))


def _kinds() -> str:
    return ", ".join(f"{name} ({kind.__name__})" for name, kind in _EXTRAS.items())


def origin_of(url: str) -> str:
    """scheme://host:port of an http or https address.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{shown(url)} is no http or https address")
    return f"{parts.scheme}://{parts.hostname}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"


def shown(url: str) -> str:
    """*url* as it may be written down: without user, password, query and fragment, which are where secrets are."""
    plain = url.partition("#")[0].partition("?")[0]
    scheme, separator, rest = plain.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"[:200] if separator else plain.rpartition("@")[2][:200]


def session(
    settings: Settings,
    rules: ImageRules | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    rng: Random | None = None,
    retried: Callable[[], None] = lambda: None,
) -> StraightSession:
    """A session for image hosts: retries, pool, deadline and address guard; for as many threads as fetch at once.

    It does not read the environment's proxies and ~/.netrc: behind a proxy the guard would judge the proxy's address, and
    a password for a host would follow whatever address a record names. REQUESTS_CA_BUNDLE is honoured.
    """
    rules = rules or ImageRules()
    waits = Waits(
        base_s=settings.image_backoff_s,
        retry_after_cap_s=settings.image_retry_after_cap_s,
        sleep=sleep,
        rng=rng or SystemRandom(),
        retried=retried,
    )
    hide_query_strings()
    return StraightSession(
        pools=pool_classes(deadline_s=settings.image_deadline_s, only_public=True, allow_networks=rules.allow_networks),
        origins=HOSTS,
        connections=settings.fetch_workers,
        proxies={"http": rules.proxy, "https": rules.proxy} if rules.proxy else {},
        retries=ImageRetry(
            total=settings.image_retries, status_forcelist=RETRIED, allowed_methods={"GET"}, raise_on_status=False, waits=waits
        ),
    )


class ImageSource:
    """Where the pipeline gets its images from; for many threads."""

    def __init__(self, session: StraightSession, settings: Settings, rules: ImageRules | None = None) -> None:
        self._session = session
        self._settings = settings
        self._rules = rules or ImageRules()
        self._timeout = Timeout(connect=settings.image_connect_timeout_s, read=settings.image_read_timeout_s)

    def fetch(self, url: str) -> Image:
        """Download and check an image.

        Raises:
            AddressBlocked: *url*, or what it redirects to, is malformed or leads where images may not come from.
            ImageNotFound, ImageDenied: the host says no.
            ImageTooLarge, ImageTooManyPixels, ImageNotAnImage, ImageTruncated: what it holds is not usable.
            ImageUnavailable: it was not to be had in full for now, after all retries.
        """
        ends_at = time.monotonic() + self._settings.image_deadline_s
        target = url
        for _ in range(REDIRECTS_MAX + 1):
            address, origin = _address(target)
            with self._answer(address, origin) as response:
                location = _redirect_of(response)
                if location is None:
                    return checked(self._content(response, target), max_px=self._settings.image_max_px, source=shown(target))
                target = urljoin(address, location)
                _release(response)
            if time.monotonic() > ends_at:
                raise ImageUnavailable(f"{shown(url)}: redirected for {self._settings.image_deadline_s:g} s")
        raise ImageDenied(f"{shown(url)}: more than {REDIRECTS_MAX} redirects")

    @contextlib.contextmanager
    def _answer(self, address: str, origin: str) -> Iterator[BaseHTTPResponse]:
        """One request with its retries; the answer's body is still to be read."""
        headers = {**_HEADERS, **self._rules.headers} if origin in self._rules.origins else _HEADERS
        try:
            with self._session.answer("GET", address, origin=origin, headers=headers, timeout=self._timeout) as response:
                yield response
        except FAILURES as exc:
            reason = getattr(exc, "reason", None) or exc
            # the cause is the reason, as the exception around it quotes the query string
            raise ImageUnavailable(f"{shown(address)}: {type(reason).__name__}") from (None if reason is exc else reason)

    def _content(self, response: BaseHTTPResponse, url: str) -> bytes:
        limit = self._settings.image_max_bytes
        if response.status // 100 != 2:  # noqa: PLR2004  # a success
            _release(response)
            raise _refusal(response.status)(f"{shown(url)}: answered {response.status}")
        if (announced := response.length_remaining or 0) > limit:
            raise ImageTooLarge(f"{shown(url)}: {announced} bytes, more than {limit}")
        content = body_of(response, most_bytes=limit)
        if len(content) > limit:
            raise ImageTooLarge(f"{shown(url)}: more than {limit} bytes")
        return content


def _address(url: str) -> tuple[str, str]:
    """*url* as it may be sent, which is encoded and with a host that names one, and its origin."""
    prepared = requests.PreparedRequest()
    try:
        prepared.prepare_url(url, None)
        return prepared.url or "", origin_of(prepared.url or "")
    except (requests.RequestException, ValueError):
        raise AddressBlocked(f"{shown(url)}: not a valid http or https address") from None


def _redirect_of(response: BaseHTTPResponse) -> str | None:
    """Where it points to, if it does. Headers arrive as latin-1, and are UTF-8 where they are not ASCII."""
    location = response.get_redirect_location()
    return location.encode("latin1").decode("utf-8", "replace") if location else None


def _refusal(status: int) -> type[ImageNotFound | ImageDenied | ImageUnavailable]:
    if status in _GONE:
        return ImageNotFound
    return ImageUnavailable if status in _FOR_NOW or status >= 500 else ImageDenied  # noqa: PLR2004  # the host's own fault


def _release(response: BaseHTTPResponse) -> None:
    """Read a small rest, so that the connection can be used again; with a large one it is closed."""
    left = PIECE_BYTES
    with contextlib.suppress(*FAILURES):
        while left > 0 and (piece := response.read1(left, decode_content=False)):
            left -= len(piece)
