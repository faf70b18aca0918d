"""Regions of a verdict: the format in which a detector writes them, and their place in the image in one unit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Unit = Literal["px", "fraction", "percent", "thousandth"]
UNITS: tuple[Unit, ...] = ("px", "fraction", "percent", "thousandth")
Box = Literal["xywh", "xyxy", "cxcywh", "yxyx"]
BOXES: tuple[Box, ...] = ("xywh", "xyxy", "cxcywh", "yxyx")
Point = tuple[float, float]

_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
_CENTRES = (("cx", "cy", "width", "height"), ("cx", "cy", "w", "h"), ("x_center", "y_center", "width", "height"))
_PIXELS = ("x_px", "y_px", "width_px", "height_px")
_LEFT_TOP = (("left", "top", "width", "height"), _PIXELS)
_BY_FORMAT = (("x", "y", "width", "height"), ("x", "y", "w", "h"))
_BOX_NAMES = ("bbox", "box", "box_2d", "boundingbox", "bounding_box")
_POLYGON_NAMES = ("polygon", "points", "vertices")
_PLACE = frozenset(name for names in (*_CORNERS, *_CENTRES, *_LEFT_TOP, *_BY_FORMAT, _BOX_NAMES, _POLYGON_NAMES) for name in names)
_POINTS_MIN = 3
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class RegionFormat:
    """The unit of a detector's regions, and the order of four numbers that are not named otherwise.

    `px` is pixels of the sent image, `percent` and `thousandth` are parts of its width and height. The boxes are the left upper corner and
    the size, two corners, the centre and the size, and two corners with y first.
    """

    unit: Unit
    box: Box = "xywh"


def in_fractions(
    regions: Iterable[Mapping[str, Any]], form: RegionFormat | None, *, width_px: int, height_px: int
) -> tuple[dict[str, Any], ...] | None:
    """Return the regions in fractions of width and height from the top left; None if their unit is not known.

    A region with a place has `x`, `y`, `width` and `height`, within the image, and a `polygon` if it was one. One without has none of them.
    Its other values stay.
    """
    found = []
    for region in regions:
        named = {str(name).lower(): value for name, value in region.items()}
        its_form = RegionFormat("px") if _numbers(named, _PIXELS) else form
        if its_form is None:
            return None
        rest = {name: value for name, value in region.items() if str(name).lower() not in _PLACE}
        found.append(rest | _placed(_outline(named, its_form), its_form, width_px=width_px, height_px=height_px))
    return tuple(found)


def _placed(outline: Sequence[Point] | None, form: RegionFormat, *, width_px: int, height_px: int) -> dict[str, Any]:
    scales: dict[Unit, Point] = {"px": (width_px, height_px), "fraction": (1, 1), "percent": (100, 100), "thousandth": (1000, 1000)}
    whole_x, whole_y = scales[form.unit]
    points = [[_within(x / whole_x), _within(y / whole_y)] for x, y in outline or ()]
    if not points:
        return {}
    (left, right), (top, bottom) = ((min(values), max(values)) for values in zip(*points, strict=True))
    if left >= right or top >= bottom:
        return {}
    box = {"x": left, "y": top, "width": round(right - left, _DIGITS), "height": round(bottom - top, _DIGITS)}
    return box if len(points) == 2 else box | {"polygon": points}  # noqa: PLR2004  # two corners


def _outline(region: Mapping[str, Any], form: RegionFormat) -> Sequence[Point] | None:
    """Return the points of a polygon, or two corners of a box, in the unit of the region."""
    for name in _POLYGON_NAMES:
        if points := _points(region.get(name), y_first=form.box == "yxyx"):
            return points
    for name in _BOX_NAMES:
        value = region.get(name)
        if isinstance(value, dict):
            return _outline({str(inner).lower(): each for inner, each in value.items()}, form)
        if isinstance(value, list) and len(value) == 4 and (box := _numbers(dict(enumerate(value)), range(4))):  # noqa: PLR2004
            return _corners(box, form.box)
    return _named_box(region, form)


def _named_box(region: Mapping[str, Any], form: RegionFormat) -> Sequence[Point] | None:
    by_format: Box = "cxcywh" if form.box == "cxcywh" else "xywh"
    kinds: tuple[tuple[Sequence[Sequence[str]], Box], ...] = (
        (_CORNERS, "xyxy"),
        (_CENTRES, "cxcywh"),
        (_LEFT_TOP, "xywh"),
        (_BY_FORMAT, by_format),
    )
    for sets, kind in kinds:
        for names in sets:
            if box := _numbers(region, names):
                return _corners(box, kind)
    return None


def _corners(box: Sequence[float], kind: Box) -> Sequence[Point]:
    a, b, c, d = box
    return {
        "xywh": ((a, b), (a + c, b + d)),
        "xyxy": ((a, b), (c, d)),
        "cxcywh": ((a - c / 2, b - d / 2), (a + c / 2, b + d / 2)),
        "yxyx": ((b, a), (d, c)),
    }[kind]


def _points(value: Any, *, y_first: bool) -> Sequence[Point] | None:
    """Return the points of a polygon: pairs, objects with x and y, or the numbers one after another."""
    if not isinstance(value, list):
        return None
    if all(isinstance(each, int | float) for each in value):
        value = [list(pair) for pair in zip(value[::2], value[1::2], strict=False)]
    found = []
    for each in value:
        if isinstance(each, dict):
            point = _numbers({str(name).lower(): number for name, number in each.items()}, ("x", "y"))
        else:
            point = _numbers(dict(enumerate(each)), (1, 0) if y_first else (0, 1)) if isinstance(each, list) else None
        if point is None:
            return None
        found.append((point[0], point[1]))
    return found if len(found) >= _POINTS_MIN else None


def _numbers(region: Mapping[Any, Any], names: Iterable[Any]) -> list[float] | None:
    values = [region.get(name) for name in names]
    if all(isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values):
        return [float(value) for value in values if value is not None]
    return None


def _within(value: float) -> float:
    return round(min(1.0, max(0.0, value)), _DIGITS)
