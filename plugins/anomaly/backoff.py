"""Waits: exponential backoff, and the hints of servers in Retry-After and the headers of rate limits."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(h|ms|m|s|us|µs|ns)"
_GO_DURATION = re.compile(f"(?:{_PART})+")
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


def delay_s(failures: int, *, base_s: float, cap_s: float, rng: Random, hint_s: float = 0.0) -> float:
    """Return the delay before the next try: exponential in *failures*, with up to 10 % jitter, at least the server's *hint_s*."""
    return max(hint_s, min(cap_s, base_s * 2.0 ** (failures - 1))) * rng.uniform(1.0, 1.1)


def wait_hint_s(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that a response asks clients to wait, or None if it states none.

    Retry-After has priority over the resets of rate limits, of which the latest counts. *headers* ignores the case of names. *now*
    returns seconds since the epoch, and is called only if the response has no Date.
    """
    if (asked_s := retry_after_s(headers, now=now)) is not None:
        return asked_s
    now = _server_clock(headers) or now
    resets = (parse_wait_s(value, now=now) for name, value in headers.items() if "ratelimit" in name.lower() and "reset" in name.lower())
    return max((reset for reset in resets if reset is not None), default=None)


def exhausted_for_s(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float:
    """Return the seconds until all exhausted rate limits are reset, or 0 if none is exhausted. The arguments are those of `wait_hint_s`."""
    left = {name.lower(): value for name, value in headers.items() if "ratelimit" in name.lower()}
    gone = [name for name, value in left.items() if "remaining" in name and value.strip() == "0"]
    if not gone:
        return 0.0
    resets = (parse_wait_s(left.get(name.replace("remaining", "reset"), ""), now=_server_clock(headers) or now) for name in gone)
    return max((reset for reset in resets if reset is not None), default=0.0)


def retry_after_s(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that Retry-After states, or None. The arguments are those of `wait_hint_s`."""
    asked_ms = _number(headers.get("retry-after-ms", ""))
    if asked_ms is not None:
        return asked_ms / 1000
    return parse_wait_s(headers.get("retry-after", ""), now=_server_clock(headers) or now)


def _server_clock(headers: Mapping[str, str]) -> Callable[[], float] | None:
    """Return the server's clock, to which its times refer. This machine's may be wrong by hours."""
    at = _http_date(headers.get("date", ""))
    return at.timestamp if at else None


def parse_wait_s(text: str, *, now: Callable[[], float] = time.time) -> float | None:
    """Parse seconds, an HTTP date, an RFC 3339 time or a duration such as 6m0s.

    Returns None for anything else, and for times that are not in the future.
    """
    text = text.strip()
    for read in (_number, _go_duration):
        if (seconds := read(text)) is not None:
            return seconds
    at = _http_date(text) or _rfc3339(text)
    return _positive(at.timestamp() - now()) if at else None


def _number(text: str) -> float | None:
    return _positive(float(text)) if _SECONDS.fullmatch(text) else None


def _go_duration(text: str) -> float | None:
    if not _GO_DURATION.fullmatch(text):
        return None
    return _positive(sum(float(number) * _UNIT_S[unit] for number, unit in re.findall(_PART, text)))


def _http_date(text: str) -> datetime | None:
    try:
        return _aware(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _rfc3339(text: str) -> datetime | None:
    try:
        return _aware(datetime.fromisoformat(text))
    except ValueError:
        return None


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _positive(seconds: float) -> float | None:
    return seconds if seconds > 0 and math.isfinite(seconds) else None
