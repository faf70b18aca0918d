"""Download images from URLs that come from data: addresses are guarded, and bytes, pixels and time are bounded."""

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
from anomaly.images.retry import RETRIED_STATUSES, ImageRetry, RetryDelays
from anomaly.images.validation import validated
from anomaly.transport.session import REQUEST_ERRORS, PooledSession, hide_query_strings, read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from ipaddress import IPv4Network, IPv6Network

    from urllib3 import BaseHTTPResponse

    from anomaly.models.records import Image
    from anomaly.settings import Settings

DRAIN_MAX_BYTES = 128 * 1024
"""A larger unread body closes its connection instead of being read to its end."""
REDIRECTS_MAX = 5
ORIGINS_MAX = 16
"""Origins whose connections are kept open."""
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "anomaly"}
_NOT_FOUND = frozenset({404, 410})
_TEMPORARY = frozenset({408, 425, 429})
_EXTRAS = {"headers": dict, "hosts": list, "allow_networks": list, "proxy": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRules:
    """The options of the connection `anomaly_images`."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    origins: frozenset[str] = frozenset()
    """scheme://host:port of the hosts that receive the headers. No other host does, nor one of these over another scheme."""
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that are allowed although they are not public."""
    proxy: str | None = field(default=None, repr=False)
    """Behind a proxy, the proxy has to guard addresses: it resolves the names of image hosts."""

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any], *, host: str | None = None) -> Self:
        """Return the rules in a connection's extra. *host* and each of its `hosts` is https unless it starts with http://.

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
    """Return scheme://host:port of an http or https URL.

    Raises:
        ValueError: it is another kind of URL, or none.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{redacted(url)} is no http or https address")
    return f"{parts.scheme}://{parts.hostname}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"


def redacted(url: str) -> str:
    """Return *url* without user, password, query and fragment, which may hold secrets, for logs and messages."""
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
    on_retry: Callable[[], None] = lambda: None,
) -> PooledSession:
    """Return a session for image hosts with retries, a deadline and an address guard, for as many threads as fetch at once.

    It ignores the environment's proxies, behind which addresses cannot be guarded here, and ~/.netrc, whose passwords would be
    sent to any URL that a record names. REQUESTS_CA_BUNDLE is honoured.
    """
    rules = rules or ImageRules()
    delays = RetryDelays(
        base_s=settings.image_backoff_s,
        retry_after_cap_s=settings.image_retry_after_cap_s,
        sleep=sleep,
        rng=rng or SystemRandom(),
        on_retry=on_retry,
    )
    hide_query_strings()
    return PooledSession(
        origins=ORIGINS_MAX,
        connections=settings.fetch_workers,
        deadline_s=settings.image_deadline_s,
        only_public=True,
        allow_networks=rules.allow_networks,
        proxies={"http": rules.proxy, "https": rules.proxy} if rules.proxy else {},
        retries=ImageRetry(
            total=settings.image_retries,
            status_forcelist=RETRIED_STATUSES,
            allowed_methods={"GET"},
            raise_on_status=False,
            delays=delays,
        ),
    )


class ImageSource:
    """The image hosts. For many threads."""

    def __init__(self, session: PooledSession, settings: Settings, rules: ImageRules | None = None) -> None:
        self._session = session
        self._settings = settings
        self._rules = rules or ImageRules()
        self._timeout = Timeout(connect=settings.image_connect_timeout_s, read=settings.image_read_timeout_s)

    def fetch(self, url: str) -> Image:
        """Download and validate an image.

        Raises:
            AddressBlocked: *url*, or a redirect's target, is malformed or leads to a forbidden address.
            ImageNotFound, ImageDenied: the host refuses it.
            ImageTooLarge, ImageTooManyPixels, ImageNotAnImage, ImageTruncated: the content cannot be used.
            ImageUnavailable: it could not be read in full, after all retries; a later attempt may succeed.
        """
        ends_at = time.monotonic() + self._settings.image_deadline_s
        target = url
        for _ in range(REDIRECTS_MAX + 1):
            address, origin = _address(target)
            with self._request(address, origin) as response:
                location = _redirect_of(response)
                if location is None:
                    return validated(self._content(response, target), max_px=self._settings.image_max_px, source=redacted(target))
                target = urljoin(address, location)
                _drain(response)
            if time.monotonic() > ends_at:
                raise ImageUnavailable(f"{redacted(url)}: redirected for {self._settings.image_deadline_s:g} s")
        raise ImageDenied(f"{redacted(url)}: more than {REDIRECTS_MAX} redirects")

    @contextlib.contextmanager
    def _request(self, address: str, origin: str) -> Iterator[BaseHTTPResponse]:
        """Send one request, with its retries; the body is still to be read."""
        headers = {**_HEADERS, **self._rules.headers} if origin in self._rules.origins else _HEADERS
        try:
            with self._session.open_response("GET", address, origin=origin, headers=headers, timeout=self._timeout) as response:
                yield response
        except REQUEST_ERRORS as exc:
            reason = getattr(exc, "reason", None) or exc
            # the exception around the reason quotes the query string, so it is not the cause
            raise ImageUnavailable(f"{redacted(address)}: {type(reason).__name__}") from (None if reason is exc else reason)

    def _content(self, response: BaseHTTPResponse, url: str) -> bytes:
        limit = self._settings.image_max_bytes
        if response.status // 100 != 2:  # noqa: PLR2004  # a success
            _drain(response)
            raise _refusal(response.status)(f"{redacted(url)}: answered {response.status}")
        if (announced := response.length_remaining or 0) > limit:
            raise ImageTooLarge(f"{redacted(url)}: {announced} bytes, more than {limit}")
        content = read_body(response, max_bytes=limit)
        if len(content) > limit:
            raise ImageTooLarge(f"{redacted(url)}: more than {limit} bytes")
        return content


def _address(url: str) -> tuple[str, str]:
    """Return *url*, encoded and with a valid host, and its origin."""
    prepared = requests.PreparedRequest()
    try:
        prepared.prepare_url(url, None)
        return prepared.url or "", origin_of(prepared.url or "")
    except (requests.RequestException, ValueError):
        raise AddressBlocked(f"{redacted(url)}: not a valid http or https address") from None


def _redirect_of(response: BaseHTTPResponse) -> str | None:
    """Return the target of a redirect. Headers are decoded as latin-1, but are UTF-8 if not ASCII."""
    location = response.get_redirect_location()
    return location.encode("latin1").decode("utf-8", "replace") if location else None


def _refusal(status: int) -> type[ImageNotFound | ImageDenied | ImageUnavailable]:
    if status in _NOT_FOUND:
        return ImageNotFound
    return ImageUnavailable if status in _TEMPORARY or status >= 500 else ImageDenied  # noqa: PLR2004  # a server error


def _drain(response: BaseHTTPResponse) -> None:
    """Read the rest of a small body, so that its connection can be used again."""
    left = DRAIN_MAX_BYTES
    with contextlib.suppress(*REQUEST_ERRORS):
        while left > 0 and (piece := response.read1(left, decode_content=False)):
            left -= len(piece)
