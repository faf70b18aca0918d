"""Regions of a verdict as shapes. Detectors name their coordinates differently, and count in pixels or in fractions of the image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CORNERS = (
    ("x_min", "y_min", "x_max", "y_max"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
_BOXES = (
    ("x", "y", "width", "height"),
    ("x_px", "y_px", "width_px", "height_px"),
    ("left", "top", "width", "height"),
    ("x", "y", "w", "h"),
)
_POLYGONS = ("polygon", "points")
POINTS_MIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """Closed outlines in one unit: pixels, or fractions of width and height."""

    in_pixels: bool
    outlines: tuple[tuple[tuple[float, float], ...], ...]


def shapes_of(regions: Sequence[Any]) -> Shapes:
    """Return the regions that have coordinates; they count in fractions if none is above 1."""
    outlines = tuple(outline for region in regions if isinstance(region, Mapping) and (outline := _outline(region)))
    largest = max((abs(value) for outline in outlines for point in outline for value in point), default=0.0)
    return Shapes(in_pixels=largest > 1, outlines=outlines)


def _outline(region: Mapping[str, Any]) -> tuple[tuple[float, float], ...] | None:
    for name in _POLYGONS:
        points = [_point(each) for each in region[name]] if isinstance(region.get(name), list) else []
        found = tuple(point for point in points if point)
        if len(found) >= POINTS_MIN:
            return found
    for names in _CORNERS:
        if corners := _numbers(region, names):
            left, top, right, bottom = corners
            return (left, top), (right, top), (right, bottom), (left, bottom)
    for names in _BOXES:
        if box := _numbers(region, names):
            left, top, width, height = box
            return (left, top), (left + width, top), (left + width, top + height), (left, top + height)
    return None


def _point(value: Any) -> tuple[float, float] | None:
    if isinstance(value, Mapping):
        found = _numbers(value, ("x", "y"))
    else:
        found = _numbers(dict(enumerate(value)), (0, 1)) if isinstance(value, list) else None
    return (found[0], found[1]) if found else None


def _numbers(region: Mapping[Any, Any], names: Sequence[Any]) -> list[float] | None:
    values = [region.get(name) for name in names]
    if all(isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values):
        return [float(value) for value in values if value is not None]
    return None
