"""How long to wait: exponential backoff, and what a server says in Retry-After and its kin."""

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
    """Seconds to wait after so many *failures*: exponential, up to 10 % jitter, never under the server's hint."""
    return max(hint_s, min(cap_s, base_s * 2.0 ** (failures - 1))) * rng.uniform(1.0, 1.1)


def wait_hint_s(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that a response asks us to wait, or None when it does not say.

    Retry-After counts before the resets of rate limits, of which the latest counts. *headers* compares names without
    regard to case; *now* is in seconds since the epoch, and asked only where the server does not say when it answered.
    """
    if (asked_s := retry_after_s(headers, now=now)) is not None:
        return asked_s
    now = _server_clock(headers) or now
    resets = (parse_wait_s(value, now=now) for name, value in headers.items() if "ratelimit" in name.lower() and "reset" in name.lower())
    return max((reset for reset in resets if reset is not None), default=None)


def exhausted_for_s(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float:
    """Seconds until every rate limit of which nothing remains is reset; 0 where something remains, as `wait_hint_s`."""
    left = {name.lower(): value for name, value in headers.items() if "ratelimit" in name.lower()}
    gone = [name for name, value in left.items() if "remaining" in name and value.strip() == "0"]
    if not gone:
        return 0.0
    resets = (parse_wait_s(left.get(name.replace("remaining", "reset"), ""), now=_server_clock(headers) or now) for name in gone)
    return max((reset for reset in resets if reset is not None), default=0.0)


def retry_after_s(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that Retry-After asks us to wait, as `wait_hint_s`."""
    asked_ms = _number(headers.get("retry-after-ms", ""))
    if asked_ms is not None:
        return asked_ms / 1000
    return parse_wait_s(headers.get("retry-after", ""), now=_server_clock(headers) or now)


def _server_clock(headers: Mapping[str, str]) -> Callable[[], float] | None:
    """The server means its own clock; that of this machine may be wrong by hours."""
    at = _http_date(headers.get("date", ""))
    return at.timestamp if at else None


def parse_wait_s(text: str, *, now: Callable[[], float] = time.time) -> float | None:
    """Read seconds, an HTTP date, an RFC 3339 time or a duration such as 6m0s.

    What lies in the past, is no more than zero, or is none of these says nothing: None.
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
