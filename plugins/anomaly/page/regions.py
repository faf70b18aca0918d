"""Regions of a result as outlines to be drawn. They are stored in fractions of width and height from the top left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anomaly.models.regions import RegionFormat, in_fractions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STORED = RegionFormat("fraction")
Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlines:
    """The outlines of a result's regions, and the number of regions that have none."""

    drawn: tuple[Outline, ...]
    without_place: int
    """Regions that the detector gave no place in the image."""
    unit_unknown: bool
    """True if nothing says in which unit the regions are, so that none is drawn."""


def outlines_of(regions: Sequence[Mapping[str, Any]], unit: str | None) -> Outlines:
    if unit is None:
        return Outlines(drawn=(), without_place=0, unit_unknown=bool(regions))
    objects = [region for region in regions if isinstance(region, dict)]  # unless somebody has edited them
    located = in_fractions(objects, STORED, width_px=1, height_px=1) or ()
    drawn = tuple(_outline(region) for region in located if "x" in region)
    return Outlines(drawn=drawn, without_place=len(regions) - len(drawn), unit_unknown=False)


def _outline(region: Mapping[str, Any]) -> Outline:
    if polygon := region.get("polygon"):
        return tuple((x, y) for x, y in polygon)
    left, top = region["x"], region["y"]
    right, bottom = round(left + region["width"], 6), round(top + region["height"], 6)
    return (left, top), (right, top), (right, bottom), (left, bottom)
