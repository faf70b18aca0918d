"""Waits: exponential backoff, and the hints of servers in Retry-After and the headers of rate limits."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from http_sf import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from random import Random

_UNITS = {
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_PART = rf"([0-9]{{1,9}}(?:\.[0-9]{{1,9}})?) ?({'|'.join(sorted(_UNITS, key=len, reverse=True))}) ?"
_DURATION = re.compile(f"(?:pt)?(?:{_PART})+")
"""A duration of Go (6m0s), of ISO 8601 (PT6M0S), or in words (6 minutes)."""
_RESET_UNIT = re.compile(r"(-after)?(-seconds|-ms)?$")
_SECONDS = re.compile(r"[0-9]{1,19}(?:\.[0-9]{1,9})?")
_EPOCH_MIN = 1e9
"""A larger number of seconds is a time since the epoch (2001 and later), and not a wait of more than 30 years."""
_EPOCH_UNITS = 1e11
"""A larger number counts milliseconds, microseconds or nanoseconds since the epoch."""


def delay_s(failures: int, *, base_s: float, cap_s: float, rng: Random, hint_s: float = 0.0) -> float:
    """Return the delay before the next try: exponential in *failures*, with up to 10 % jitter, at least the server's *hint_s*."""
    return max(hint_s, min(cap_s, base_s * 2.0 ** (failures - 1))) * rng.uniform(1.0, 1.1)


def wait_hint_s(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that a response asks clients to wait, or None if it states none.

    Retry-After has priority over the resets of rate limits. Of these the latest of an exhausted limit counts, or else the latest of all.
    *headers* ignores the case of names. *now* returns seconds since the epoch, and is called only if the response has no Date.
    """
    if (asked_s := retry_after_s(headers, now=now)) is not None:
        return asked_s
    limits = list(_rate_limits(headers, now=now))
    return max((wait_s for exhausted, wait_s in limits if exhausted), default=None) or max((wait_s for _, wait_s in limits), default=None)


def exhausted_for_s(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float:
    """Return the seconds until all exhausted rate limits are reset, or 0 if none is exhausted. The arguments are those of `wait_hint_s`."""
    return max((wait_s for exhausted, wait_s in _rate_limits(headers, now=now) if exhausted), default=0.0)


def _rate_limits(headers: Mapping[str, str], *, now: Callable[[], float]) -> Iterator[tuple[bool, float]]:
    """Yield for each rate limit that states a reset whether it is exhausted, and the seconds until then."""
    lowered = ((name.lower().replace("rate-limit", "ratelimit"), value) for name, value in headers.items())
    fields = {name: value for name, value in lowered if "ratelimit" in name}
    if not fields:
        return
    now = _server_clock(headers) or now
    for name, value in fields.items():
        if ("reset" in name or "retry-after" in name) and (wait_s := parse_wait_s(value, now=now)) is not None:
            remaining = fields.get(_RESET_UNIT.sub("", name).replace("reset", "remaining"), "")
            yield any(map(_is_spent, remaining.split(","))), wait_s / 1000 if name.endswith("-ms") else wait_s
    # draft-ietf-httpapi-ratelimit-headers: a list of policies with parameters; up to version 07, a dictionary.
    windows = {policy: _seconds(parameters.get("w")) for policy, parameters in _structured(fields.get("ratelimit-policy", ""), "list")}
    for policy, parameters in _structured(fields.get("ratelimit", ""), "list"):
        if (wait_s := _seconds(parameters.get("t")) or windows.get(policy)) is not None:
            yield _is_spent(parameters.get("r")), wait_s
    members = dict(_structured(fields.get("ratelimit", "").replace(";", ","), "dictionary"))
    if "reset" in members and (wait_s := _seconds(members["reset"])) is not None:
        yield _is_spent(members.get("remaining")), wait_s


def _structured(text: str, kind: str) -> Iterator[tuple[Any, Any]]:
    """Yield the members of a structured field (RFC 9651): name and parameters of a list, or key and value of a dictionary."""
    try:
        members: Any = parse(text.encode(), tltype=kind) if text else ()
    except (ValueError, RecursionError):
        return
    if isinstance(members, dict):
        yield from ((key, value) for key, (value, _) in members.items())
    else:
        yield from ((str(value), parameters) for value, parameters in members)


def _seconds(value: object) -> float | None:
    return _number(str(value)) if isinstance(value, int | float | Decimal | str) and not isinstance(value, bool) else None


def _is_spent(remaining: object) -> bool:
    """Return whether nothing is left of a limit; some servers count below zero."""
    try:
        return float(str(remaining)) <= 0
    except ValueError:
        return False


def retry_after_s(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that Retry-After states, or None. The arguments are those of `wait_hint_s`."""
    asked_ms = _number(headers.get("retry-after-ms", "") or headers.get("x-ms-retry-after-ms", ""))
    if asked_ms is not None:
        return asked_ms / 1000
    return parse_wait_s(headers.get("retry-after", ""), now=_server_clock(headers) or now)


def _server_clock(headers: Mapping[str, str]) -> Callable[[], float] | None:
    """Return the server's clock, to which its times refer. This machine's may be wrong by hours."""
    at = _http_date(headers.get("date", ""))
    return at.timestamp if at else None


def parse_wait_s(text: str, *, now: Callable[[], float] = time.time) -> float | None:
    """Parse seconds, an HTTP date, an RFC 3339 time, a time since the epoch (in seconds or smaller units) or a duration such as 6m0s.

    Of several numbers, as a header that was sent twice has them, the largest counts. Returns None for anything else, and for times that
    are not in the future.
    """
    text = text.strip(' \t"')
    if numbers := [seconds for part in text.split(",") if (seconds := _number(part.strip())) is not None]:
        return max(numbers) if max(numbers) < _EPOCH_MIN else _until_epoch(max(numbers), now())
    if (seconds := _duration(text.lower())) is not None:
        return seconds
    at = _http_date(text) or _rfc3339(text)
    return _positive(at.timestamp() - now()) if at else None


def _number(text: str) -> float | None:
    return _positive(float(text)) if _SECONDS.fullmatch(text) else None


def _until_epoch(at: float, now_s: float) -> float | None:
    while at > _EPOCH_UNITS:
        at /= 1000
    return _positive(at - now_s)


def _duration(text: str) -> float | None:
    if not _DURATION.fullmatch(text):
        return None
    return _positive(sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, text)))


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
