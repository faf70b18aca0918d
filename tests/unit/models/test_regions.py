"""Regions in one unit: fractions of width and height from the top left."""

from __future__ import annotations

from typing import Any

import pytest

from anomaly.models.regions import RegionFormat, in_fractions

WIDTH_PX, HEIGHT_PX = 300, 200
BOX = {"x": 0.1, "y": 0.1, "width": 0.2, "height": 0.2}
"""The box from (30, 20) to (90, 60) pixels."""
PX, FRACTION = RegionFormat("px"), RegionFormat("fraction")
FORMS: list[tuple[RegionFormat | None, dict[str, Any]]] = [
    (PX, {"x": 30, "y": 20, "width": 60, "height": 40}),
    (PX, {"x": 30, "y": 20, "w": 60, "h": 40}),
    (PX, {"left": 30, "top": 20, "width": 60, "height": 40}),
    (PX, {"left": 30, "top": 20, "right": 90, "bottom": 60}),
    (PX, {"xmin": 30, "ymin": 20, "xmax": 90, "ymax": 60}),
    (PX, {"x_min": 30, "y_min": 20, "x_max": 90, "y_max": 60}),
    (PX, {"x1": 90, "y1": 60, "x2": 30, "y2": 20}),
    (PX, {"cx": 60, "cy": 40, "w": 60, "h": 40}),
    (PX, {"x_center": 60, "y_center": 40, "width": 60, "height": 40}),
    (PX, {"bbox": [30, 20, 60, 40]}),
    (RegionFormat("px", "xyxy"), {"box": [30, 20, 90, 60]}),
    (RegionFormat("px", "xyxy"), {"bounding_box": [30, 20, 90, 60]}),
    (RegionFormat("px", "cxcywh"), {"x": 60, "y": 40, "width": 60, "height": 40}),
    (RegionFormat("fraction", "cxcywh"), {"bbox": [0.2, 0.2, 0.2, 0.2]}),
    (FRACTION, {"x": 0.1, "y": 0.1, "width": 0.2, "height": 0.2}),
    (FRACTION, {"BoundingBox": {"Left": 0.1, "Top": 0.1, "Width": 0.2, "Height": 0.2}}),
    (RegionFormat("thousandth", "yxyx"), {"box_2d": [100, 100, 300, 300]}),
    (RegionFormat("percent"), {"x": 10, "y": 10, "width": 20, "height": 20}),
    (RegionFormat("fraction", "yxyx"), {"x_px": 30, "y_px": 20, "width_px": 60, "height_px": 40}),
    (None, {"x_px": 30, "y_px": 20, "width_px": 60, "height_px": 40}),
]


def located(form: RegionFormat | None, *regions: dict[str, Any]) -> tuple[dict[str, Any], ...] | None:
    return in_fractions(regions, form, width_px=WIDTH_PX, height_px=HEIGHT_PX)


@pytest.mark.parametrize(("form", "region"), FORMS, ids=lambda value: str(value)[:60])
def test_a_box_of_any_form_becomes_the_same_fractions(form: RegionFormat | None, region: dict[str, Any]) -> None:
    assert located(form, region | {"label": "crack", "score": 0.9}) == ({"label": "crack", "score": 0.9, **BOX},)


@pytest.mark.parametrize(
    ("form", "region"),
    [
        (PX, {"polygon": [[30, 20], [90, 20], [60, 60]]}),
        (PX, {"points": [{"x": 30, "y": 20}, {"x": 90, "y": 20}, {"x": 60, "y": 60}]}),
        (PX, {"vertices": [30, 20, 90, 20, 60, 60]}),
        (RegionFormat("fraction", "yxyx"), {"polygon": [[0.1, 0.1], [0.1, 0.3], [0.3, 0.2]]}),
        (RegionFormat("thousandth"), {"points": [[100, 100], [300, 100], [200, 300]], "bbox": [0, 0, 1000, 1000]}),
    ],
    ids=str,
)
def test_a_polygon_keeps_its_points_and_gets_the_box_around_them(form: RegionFormat, region: dict[str, Any]) -> None:
    assert located(form, region) == (BOX | {"polygon": [[0.1, 0.1], [0.3, 0.1], [0.2, 0.3]]},)


def test_the_unit_is_not_guessed() -> None:
    assert located(None, {"x": 0.1, "y": 0.1, "width": 0.2, "height": 0.2}) is None
    assert located(None, {"name": "scratch"}) is None
    assert located(None) == ()


def test_a_box_is_cut_at_the_edges_of_the_image() -> None:
    assert located(PX, {"x": -30, "y": 100, "width": 60, "height": 400}) == ({"x": 0.0, "y": 0.5, "width": 0.1, "height": 0.5},)


@pytest.mark.parametrize(
    "region",
    [
        {"name": "background"},
        {"x": 400, "y": 20, "width": 60, "height": 40},
        {"x": 30, "y": 20, "width": 0, "height": 40},
        {"x": "30", "y": 20, "width": 60, "height": 40},
        {"x": True, "y": 20, "width": 60, "height": 40},
        {"x": 1e308, "y": 20, "width": 60, "height": 40},
        {"bbox": [1, 2, 3]},
        {"bbox": None},
        {"polygon": [[30, 20], [90, 20]]},
        {"polygon": [[30, 20], [90, 20], "x"]},
        {"polygon": [30, 20, 90, 20, 60, None]},
        {"points": {"x": 1}},
    ],
    ids=lambda region: str(region)[:60],
)
def test_a_region_without_a_place_has_no_coordinates_and_keeps_the_rest(region: dict[str, Any]) -> None:
    [found] = located(PX, region | {"score": 3}) or ()
    assert not {"x", "y", "width", "height", "polygon"} & set(found)
    assert found["score"] == 3


def test_one_region_without_a_place_leaves_the_others_theirs() -> None:
    assert located(PX, {"name": "dust"}, {"x": 30, "y": 20, "width": 60, "height": 40}) == ({"name": "dust"}, BOX)
