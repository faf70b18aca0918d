"""Downloads images: safely, since the addresses come from data, and within bounds of bytes, pixels and time."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from ipaddress import ip_network
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from anomaly.errors import AddressBlocked, ImageDenied, ImageNotFound, ImageTooLarge, ImageUnavailable, Misconfigured
from anomaly.image_content import checked
from anomaly.image_retry import RETRIED, ImageRetry, Waits
from anomaly.sockets import hide_query_strings, pool_classes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from ipaddress import IPv4Network, IPv6Network

    from anomaly.records import Image
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
    settings: Settings, rules: ImageRules | None = None, *, sleep: Callable[[float], None] = time.sleep, rng: Random | None = None
) -> requests.Session:
    """A session for image hosts: retries, pool, deadline and address guard; for as many threads as fetch at once.

    It does not read the environment's proxies and ~/.netrc: behind a proxy the guard would judge the proxy's address, and
    a password for a host would follow whatever address a record names. REQUESTS_CA_BUNDLE is honoured.
    """
    rules = rules or ImageRules()
    waits = Waits(
        base_s=settings.image_backoff_s, retry_after_cap_s=settings.image_retry_after_cap_s, sleep=sleep, rng=rng or SystemRandom()
    )
    retry = ImageRetry(total=settings.image_retries, status_forcelist=RETRIED, allowed_methods={"GET"}, raise_on_status=False, waits=waits)
    adapter = HTTPAdapter(pool_connections=HOSTS, pool_maxsize=settings.fetch_workers, max_retries=retry)
    adapter.poolmanager.pool_classes_by_scheme = pool_classes(
        deadline_s=settings.image_deadline_s, only_public=True, allow_networks=rules.allow_networks
    )
    hide_query_strings()
    made = requests.Session()
    made.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    made.proxies = {"http": rules.proxy, "https": rules.proxy} if rules.proxy else {}
    made.mount("http://", adapter)
    made.mount("https://", adapter)
    return made


class ImageSource:
    """Where the pipeline gets its images from; for many threads."""

    def __init__(self, session: requests.Session, settings: Settings, rules: ImageRules | None = None) -> None:
        self._session = session
        self._settings = settings
        self._rules = rules or ImageRules()
        self._timeout = settings.image_connect_timeout_s, settings.image_read_timeout_s

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
            with self._get(target) as response:
                location = self._session.get_redirect_target(response)
                if location is None:
                    return checked(self._content(response), max_px=self._settings.image_max_px, source=shown(target))
                target = urljoin(response.url, location)
                _release(response)
            if time.monotonic() > ends_at:
                raise ImageUnavailable(f"{shown(url)}: redirected for {self._settings.image_deadline_s:g} s")
        raise ImageDenied(f"{shown(url)}: more than {REDIRECTS_MAX} redirects")

    def _get(self, url: str) -> requests.Response:
        """One request with its retries; the answer's body is still to be read.

        The adapter sends it: `Session.send` reads a redirect's body to its end, however large, and keeps cookies.
        """
        prepared, of = self._prepared(url), self._session
        try:
            return of.get_adapter(prepared.url or "").send(
                prepared, stream=True, timeout=self._timeout, verify=of.verify or True, proxies=of.proxies
            )
        except requests.RequestException as exc:
            reason = getattr(exc.args[0] if exc.args else None, "reason", None) or exc
            # the cause is the reason, as the exception around it quotes the query string
            raise ImageUnavailable(f"{shown(url)}: {type(reason).__name__}") from (None if reason is exc else reason)

    def _prepared(self, url: str) -> requests.PreparedRequest:
        prepared = requests.PreparedRequest()
        try:
            prepared.prepare(method="GET", url=url, headers=_HEADERS)
            origin = origin_of(prepared.url or "")
        except (requests.RequestException, ValueError):
            raise AddressBlocked(f"{shown(url)}: not a valid http or https address") from None
        if origin in self._rules.origins:
            prepared.headers.update(self._rules.headers)
        return prepared

    def _content(self, response: requests.Response) -> bytes:
        where, limit = shown(response.url), self._settings.image_max_bytes
        if response.status_code // 100 != 2:  # noqa: PLR2004  # a success
            _release(response)
            raise _refusal(response.status_code)(f"{where}: answered {response.status_code}")
        if _announced_bytes(response) > limit:
            raise ImageTooLarge(f"{where}: {_announced_bytes(response)} bytes, more than {limit}")
        pieces, size = [], 0
        try:
            while piece := response.raw.read1(PIECE_BYTES, decode_content=True):
                pieces.append(piece)
                if (size := size + len(piece)) > limit:
                    raise ImageTooLarge(f"{where}: more than {limit} bytes")
        except HTTPError as exc:
            raise ImageUnavailable(f"{where}: {type(exc).__name__} after {size} bytes") from exc
        return b"".join(pieces)


def _refusal(status: int) -> type[ImageNotFound | ImageDenied | ImageUnavailable]:
    if status in _GONE:
        return ImageNotFound
    return ImageUnavailable if status in _FOR_NOW or status >= 500 else ImageDenied  # noqa: PLR2004  # the host's own fault


def _announced_bytes(response: requests.Response) -> int:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _release(response: requests.Response) -> None:
    """Read a small rest, so that the connection can be used again; with a large one it is closed."""
    left = PIECE_BYTES
    with contextlib.suppress(HTTPError):
        while left > 0 and (piece := response.raw.read1(left, decode_content=False)):
            left -= len(piece)
