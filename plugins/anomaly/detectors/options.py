"""Reads the extra of a detector's connection, and names each mistake in it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

from anomaly.errors import Misconfigured
from anomaly.models.quota import Quota
from anomaly.models.regions import BOXES, UNITS, RegionFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T", bound="str | None")

LIMIT_MIN, LIMIT_MAX = 0.001, 1_000_000_000
"""Bounds of a quota, within which the database can compute."""


def misconfigured(sentence: str) -> Misconfigured:
    """Return the error for a mistake in the connection."""
    return Misconfigured(f"the detector's connection: {sentence}")


class Options:
    """Returns and removes values by name. At the end, `finish` rejects what is left.

    Each method raises Misconfigured with a sentence that names the extra.
    """

    def __init__(self, extra: Mapping[str, Any]) -> None:
        self._left = dict(extra)
        self._known: list[str] = []

    def string(self, name: str, default: str | None = None) -> str:
        value = self._take(name, default)
        if value is None:
            raise misconfigured(f"the extra {name!r} is missing")
        if not isinstance(value, str):
            raise misconfigured(f"the extra {name!r} must be a string")
        return value

    def choice(self, name: str, choices: Iterable[T], default: T) -> T:
        value, choices = self._take(name, default), list(choices)
        if value not in choices:
            raise misconfigured(f"the extra {name!r} must be one of {', '.join(str(each) for each in choices if each)}, not {value!r}")
        found: T = value
        return found

    def number(self, name: str, default: float | None = None) -> float | None:
        value: float | None = self._take(name, default)
        if value is not None and not _is_number(value):
            raise misconfigured(f"the extra {name!r} must be a number")
        return value

    def interval(self, name: str, default: tuple[float, float] | None = None) -> tuple[float, float] | None:
        value = self._take(name, default)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or not all(map(_is_number, value)) or len(value) != 2 or value[0] >= value[1]:  # noqa: PLR2004  # lower and upper bound
            raise misconfigured(f"the extra {name!r} must be two numbers, the smaller one first, such as [0, 1]")
        return float(value[0]), float(value[1])

    def price(self) -> float | None:
        value = self.number("price")
        if value is not None and value < 0:
            raise misconfigured("the extra 'price' must not be negative")
        return value

    def quota(self) -> Quota:
        return Quota(
            requests_per_minute=self._limit("requests_per_minute"),
            tokens_per_minute=self._limit("tokens_per_minute"),
            concurrency=self._count("concurrency"),
        )

    def _limit(self, name: str) -> float | None:
        value = self.number(name)
        if value is not None and not LIMIT_MIN <= value <= LIMIT_MAX:
            raise misconfigured(f"the extra {name!r} must be from {LIMIT_MIN:g} to {LIMIT_MAX:,d}")
        return value

    def _count(self, name: str) -> int | None:
        value = self._limit(name)
        if value is not None and value != int(value):
            raise misconfigured(f"the extra {name!r} must be a whole number")
        return None if value is None else int(value)

    def object(self, name: str, default: Mapping[str, Any] | None = None) -> dict[str, Any]:
        value = self._take(name, dict(default or {}))
        if not isinstance(value, dict):
            raise misconfigured(f"the extra {name!r} must be an object")
        return value

    def strings(self, name: str) -> dict[str, str]:
        value = self.object(name)
        if not all(isinstance(item, str) for item in value.values()):
            raise misconfigured(f"the extra {name!r} must be an object of strings")
        return value

    def region_format(self, default: RegionFormat | None) -> RegionFormat | None:
        """Return the format of the regions: *default*, unless the extra names a unit."""
        box = self.choice("region_box", BOXES, default.box if default else BOXES[0])
        unit = self.choice("region_unit", (*UNITS, None), default.unit if default else None)
        return None if unit is None else RegionFormat(unit, box)

    def finish(self) -> None:
        if self._left:
            unknown = ", ".join(repr(name) for name in sorted(self._left))
            raise misconfigured(f"there is no extra {unknown} in this dialect; there are {', '.join(sorted(self._known))}")

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        return self._left.pop(name, default)


def _is_number(value: Any) -> bool:
    """Return whether *value* is a finite number that fits a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
