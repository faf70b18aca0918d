"""Rows that are to become records, and the checks that they have to pass."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from anomaly.errors import AddressBlocked
from anomaly.images.address import parse
from anomaly.images.objects import is_object, parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_MAX_CHARS = 500
"""A longer key is replaced by its SHA-256, since Postgres limits the size of an entry of an index."""
YEARS = range(1900, 2201)
FIELDS = ("image_url", "captured_at", "key", "attributes")


class RowInvalid(ValueError):
    """Raised when a row cannot become a record; the message is a sentence without its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRecord:
    """A row that passed all checks."""

    key: str
    image_url: str
    captured_at: datetime
    attributes: str
    """A JSON object."""


def key_of(row: object) -> str | None:
    """Return the key that a row has if it is valid, without parsing its address; None if it cannot be valid."""
    values: Any = {"image_url": row} if isinstance(row, str) else row
    if not isinstance(values, dict):
        return None
    key, image_url = values.get("key"), values.get("image_url")
    if _is_missing(key):
        key = image_url.strip() if isinstance(image_url, str) else None
    try:
        return None if key is None else _short(_text(str(key)))
    except RowInvalid:
        return None


def new_record(row: object, *, now: datetime) -> NewRecord:
    """Return the record of an address, or of a mapping of `FIELDS`, of which only `image_url` is required.

    Without `captured_at` the record is captured *now*. Without `key`, the address identifies it.

    Raises:
        RowInvalid: it is neither, or one of its values cannot be used.
    """
    if not isinstance(row, str | dict):
        raise RowInvalid(f"it is neither an address nor a mapping, but a {type(row).__name__}")
    values: dict[str, Any] = {"image_url": row} if isinstance(row, str) else row
    if unknown := next((name for name in values if name not in FIELDS), None):
        raise RowInvalid(f"there is no field {unknown!r}; there are {', '.join(FIELDS)}")
    image_url = _address(values.get("image_url"))
    key = image_url if _is_missing(values.get("key")) else _text(str(values["key"]))
    captured_at = now if _is_missing(values.get("captured_at")) else _time(values["captured_at"])
    attributes = _attributes(values.get("attributes") or {})
    return NewRecord(key=_short(key), image_url=image_url, captured_at=captured_at, attributes=attributes)


def _is_missing(value: object) -> bool:
    return value is None or value == ""


def _text(value: str) -> str:
    """Return a text that Postgres can store."""
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in ("" if value.isascii() else value)):
        raise RowInvalid("it has a zero byte, or is not UTF-8")
    return value


def _address(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RowInvalid("it has no address of an image")
    _text(value)
    try:
        parse_object(value) if is_object(value) else parse(value)
    except AddressBlocked as exc:
        raise RowInvalid(str(exc)) from exc
    return value.strip()


def _time(value: object) -> datetime:
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day, tzinfo=UTC)
        if not isinstance(value, datetime):
            raise TypeError  # noqa: TRY301  # as a text that is no time
        at = value if value.tzinfo else value.replace(tzinfo=UTC)
        at = at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise RowInvalid(f"{str(value)[:100]!r} is not a time such as 2026-01-31T08:00:00Z") from None
    if at.year not in YEARS:
        raise RowInvalid(f"the time {at.isoformat()} is not between {YEARS[0]} and {YEARS[-1]}")
    return at


def _attributes(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(_storable(dict(value)))
    except (TypeError, ValueError, RecursionError) as exc:
        raise exc if isinstance(exc, RowInvalid) else RowInvalid("its attributes are not a JSON object") from None


def _storable(value: Any) -> Any:
    """Return *value* with texts in place of what JSON lacks, such as times and infinite numbers."""
    if isinstance(value, dict):
        return {_text(str(name)): _storable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(each) for each in value]
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _text(str(value))


def _short(key: str) -> str:
    return key if len(key) <= KEY_MAX_CHARS else f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"
