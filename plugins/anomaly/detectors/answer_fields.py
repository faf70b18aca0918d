"""Converts values of an answer to what the database can store. Each function raises ValueError for a value that does not fit."""

from __future__ import annotations

import json
import math
from base64 import b64decode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anomaly.detectors.expressions import FAILURES

if TYPE_CHECKING:
    from collections.abc import Mapping

Converter = Callable[[Any], object]

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXT_CHARS = 4000
_SHOWN_CHARS = 40
_DEPTH_MAX = 50
_INTEGER_MAX = 2**63


def fitting(found: Mapping[str, Any], converters: Mapping[str, Converter]) -> tuple[dict[str, Any], dict[str, str]]:
    """Convert the values that were found; return those that fit, and for each of the others the reason.

    A value of None counts as missing; an exception stands for a value that could not be computed.
    """
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, convert in converters.items():
        value = found.get(name)
        if value is None:
            continue
        try:
            if isinstance(value, Exception):
                raise value
            values[name] = convert(value)
        except FAILURES as exc:
            problems[name] = str(exc) if type(exc) is ValueError else f"its expression cannot be computed ({type(exc).__name__})"
    return values, problems


def number(value: Any, *, scale: float = 1.0, offset: float = 0.0) -> float:
    """Return a finite number times *scale* plus *offset*. A number in a string is none: `to_number(…)` in the mapping reads it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("it is not a number")  # noqa: TRY004  # one error for all that does not fit
    try:
        found = float(value) * scale + offset
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError("it is not finite")
    return found


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("it is neither true nor false")  # noqa: TRY004  # as above
    return value


def text(value: Any) -> str:
    if isinstance(value, dict | list):
        raise ValueError("it is not a string")  # noqa: TRY004  # as above
    return str(_storable(str(value)))[:_TEXT_CHARS]


def objects(value: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError("it is not a list of objects")
    return tuple(_storable(value))


def an_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is not an object")  # noqa: TRY004  # as above
    return dict(_storable(value))


def png(value: Any) -> bytes:
    try:
        content = b64decode(value.rpartition(",")[2], validate=True)  # a data URL ends in base64
    except (ValueError, AttributeError):
        content = b""
    if not content.startswith(_PNG):
        raise ValueError("it is not a PNG in base64")
    return content


def described(value: Any) -> str:
    """Return what *value* is, in a few words for an error."""
    match value:
        case None | bool():
            return json.dumps(value)
        case str():
            return f"the string {value[:_SHOWN_CHARS]!r}"
        case int() | float():
            return f"the number {value:.10g}" if isinstance(value, float) or abs(value) < _INTEGER_MAX else "a number beyond 64 bits"
        case list() | dict():
            return "a list" if isinstance(value, list) else "an object"
        case _:
            return f"nothing ({type(value).__name__})"


def _storable(value: Any, depth: int = _DEPTH_MAX) -> Any:
    """Return *value* as Postgres can store it in text and jsonb, without NUL and lone surrogates."""
    if not depth:
        raise ValueError("it is nested too deeply")
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(key): _storable(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item, depth - 1) for item in value]
    if isinstance(value, int) and abs(value) >= _INTEGER_MAX:
        raise ValueError("a number in it has more than 64 bits")
    return number(value) if isinstance(value, float) else value


FIELDS: dict[str, tuple[Converter, str]] = {
    "score": (number, "a finite number"),
    "is_anomaly": (boolean, "true or false"),
    "threshold": (number, "a finite number"),
    "label": (text, "a text"),
    "reason": (text, "a text"),
    "regions": (objects, "a list of objects"),
    "heatmap": (png, "a PNG in base64"),
    "model": (text, "a text"),
    "version": (text, "a text"),
    "usage": (an_object, "an object"),
    "cost": (number, "a finite number"),
}
"""The fields that an answer may have: how each is converted, and what is expected."""
