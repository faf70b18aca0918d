"""Download images from URLs that come from data: addresses are guarded, and bytes, pixels and time are bounded."""

from __future__ import annotations

import contextlib
import threading
import time
from random import Random, SystemRandom
from typing import TYPE_CHECKING

import requests
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar, get_cookie_header
from urllib3 import Timeout

from anomaly.errors import AddressBlocked, ImageDenied, ImageNotFound, ImageTooLarge, ImageUnavailable
from anomaly.images import address as addresses
from anomaly.images.objects import is_object, parse_object
from anomaly.images.retry import ACCEPTED, RETRIED_STATUSES, ImageRetry, RetryDelays
from anomaly.images.rules import ImageRules
from anomaly.images.validation import validated
from anomaly.transport.session import REQUEST_ERRORS, PooledSession, hide_query_strings, read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from urllib3 import BaseHTTPResponse

    from anomaly.images.address import Address
    from anomaly.images.objects import ObjectAddress, ObjectReader
    from anomaly.models.records import Image
    from anomaly.settings import Settings

DRAIN_MAX_BYTES = 128 * 1024
"""A larger unread body closes its connection instead of being read to its end."""
REDIRECTS_MAX = 5
ORIGINS_MAX = 16
"""Origins whose connections are kept open."""
_HEADERS = {"Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity", "User-Agent": "anomaly"}
_NOT_FOUND = frozenset({404, 410})
_TEMPORARY = frozenset({408, 425, 429})


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
    """The image hosts, and buckets with images, which *objects* opens when an address first names one. For many threads."""

    def __init__(
        self,
        session: PooledSession,
        settings: Settings,
        rules: ImageRules | None = None,
        *,
        objects: Callable[[], ObjectReader] | None = None,
    ) -> None:
        self._session = session
        self._settings = settings
        self._rules = rules or ImageRules()
        self._open_objects = objects
        self._objects: ObjectReader | None = None
        self._opening = threading.Lock()
        self._timeout = Timeout(connect=settings.image_connect_timeout_s, read=settings.image_read_timeout_s)

    def fetch(self, url: str | None) -> Image:
        """Download and validate an image.

        Raises:
            AddressBlocked: *url*, or a redirect's target, is malformed or leads to a forbidden address, port or bucket.
            ImageNotFound, ImageDenied: the host refuses it.
            ImageTooLarge, ImageTooManyPixels, ImageNotAnImage, ImageTruncated: the content cannot be used.
            ImageUnavailable: it could not be read in full, after all retries; a later attempt may succeed.
        """
        if url is not None and is_object(url):
            return self._fetch_object(parse_object(url))
        ends_at = time.monotonic() + self._settings.image_deadline_s
        address = first = addresses.parse(url)
        cookies = RequestsCookieJar()
        for _ in range(REDIRECTS_MAX + 1):
            self._rules.check(address)
            with self._request(address, cookies) as response:
                location = _redirect_of(response)
                if location is None:
                    return validated(self._content(response, address), max_px=self._settings.image_max_px, source=address)
                if "Set-Cookie" in response.headers:
                    extract_cookies_to_jar(cookies, requests.Request("GET", address.url).prepare(), response)  # type: ignore[no-untyped-call]  # the stubs leave it out
                address = addresses.parse(location, base=address)
                _drain(response)
            if time.monotonic() > ends_at:
                raise ImageUnavailable(f"{first}: redirected for {self._settings.image_deadline_s:g} s")
        raise ImageDenied(f"{first}: more than {REDIRECTS_MAX} redirects")

    def _fetch_object(self, address: ObjectAddress) -> Image:
        with self._opening:
            if self._objects is None and self._open_objects:
                self._objects = self._open_objects()
        if self._objects is None or address.bucket not in {self._objects.own_bucket, *self._rules.buckets}:
            raise AddressBlocked(f"{address}: images may not come from this bucket (see buckets)", by_network=True)
        limits = self._settings
        content = self._objects.read(address, max_bytes=limits.image_max_bytes)
        return validated(content, max_px=limits.image_max_px, source=address)

    @contextlib.contextmanager
    def _request(self, address: Address, cookies: RequestsCookieJar) -> Iterator[BaseHTTPResponse]:
        """Send one request, with its retries; the body is still to be read."""
        try:
            with self._session.open_response(
                "GET", address.url, origin=address.origin, headers=self._headers(address, cookies), timeout=self._timeout
            ) as response:
                yield response
        except REQUEST_ERRORS as exc:
            reason = getattr(exc, "reason", None) or exc
            # the exception around the reason quotes the query string, so it is not the cause
            raise ImageUnavailable(f"{address}: {type(reason).__name__}") from (None if reason is exc else reason)

    def _headers(self, address: Address, cookies: RequestsCookieJar) -> Mapping[str, str]:
        """Return the headers of a request. Those of the connection have priority over user, password and cookies."""
        ours = self._rules.headers if address.origin in self._rules.origins else {}
        headers = dict(_HEADERS)
        taken = {name.lower() for name in ours}
        if address.authorization and "authorization" not in taken:
            headers["Authorization"] = address.authorization
        if cookies and "cookie" not in taken and (cookie := get_cookie_header(cookies, requests.Request("GET", address.url).prepare())):  # type: ignore[no-untyped-call]  # the stubs leave it out
            headers["Cookie"] = cookie
        return {**headers, **ours}

    def _content(self, response: BaseHTTPResponse, source: Address) -> bytes:
        limit = self._settings.image_max_bytes
        if response.status // 100 != 2:  # noqa: PLR2004  # a success
            _drain(response)
            raise _refusal(response.status)(f"{source}: answered {response.status}")
        if response.status == ACCEPTED and "Retry-After" in response.headers:
            raise ImageUnavailable(f"{source}: answered {response.status}, so the image is still being made")
        if (announced := response.length_remaining or 0) > limit:
            raise ImageTooLarge(f"{source}: {announced} bytes, more than {limit}")
        content = read_body(response, max_bytes=limit)
        if len(content) > limit:
            raise ImageTooLarge(f"{source}: more than {limit} bytes")
        return content


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
