"""The unit of the regions of each dialect, which its answer or the connection states."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.errors import Misconfigured
from anomaly.models.regions import RegionFormat, in_fractions
from tests.contract.detectors.conftest import IMAGE, Made, a_json

if TYPE_CHECKING:
    from tests.parts.http_stub import HttpStub

BOX = {"x": 0.1, "y": 0.1, "width": 0.2, "height": 0.2}
PIXELS = {"x": 30, "y": 20, "width": 60, "height": 40}
MODEL = "a-vision-model"


def a_report(region: dict[str, Any]) -> dict[str, Any]:
    return {"score": 0.9, "is_anomaly": True, "label": "crack", "reason": "A crack.", "regions": [region]}


def openai(region: dict[str, Any]) -> dict[str, Any]:
    return {"choices": [{"message": {"content": json.dumps(a_report(region))}, "finish_reason": "stop"}]}


def anthropic(region: dict[str, Any]) -> dict[str, Any]:
    return {"stop_reason": "tool_use", "content": [{"type": "tool_use", "name": "report", "input": a_report(region)}]}


def generic(region: dict[str, Any]) -> dict[str, Any]:
    return {"score": 0.9, "is_anomaly": True, "boxes": [region]}


MAPPED: dict[str, Any] = {"dialect": "generic", "answer": {"is_anomaly": "is_anomaly", "regions": "boxes"}}
FORMS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]] = [
    ({"dialect": "reference"}, a_report(PIXELS), BOX),
    ({"dialect": "reference", "region_unit": "fraction"}, a_report(BOX), BOX),
    ({"dialect": "openai_chat", "model": MODEL}, openai(BOX), BOX),
    ({"dialect": "anthropic_messages", "model": MODEL}, anthropic(BOX), BOX),
    ({"dialect": "openai_chat", "model": MODEL, "prompt": "Find cracks."}, openai(BOX), None),
    ({"dialect": "openai_chat", "model": MODEL, "prompt": "Find cracks, in pixels.", "region_unit": "px"}, openai(PIXELS), BOX),
    (
        {"dialect": "openai_chat", "model": MODEL, "prompt": "box_2d", "region_unit": "thousandth", "region_box": "yxyx"},
        openai({"box_2d": [100, 100, 300, 300]}),
        BOX,
    ),
    (MAPPED, generic(PIXELS), None),
    (MAPPED | {"region_unit": "px"}, generic(PIXELS), BOX),
    (MAPPED | {"region_unit": "px", "region_box": "cxcywh"}, generic({"x": 60, "y": 40, "width": 60, "height": 40}), BOX),
    (MAPPED | {"region_unit": "px", "region_box": "xyxy"}, generic({"bbox": [30, 20, 90, 60]}), BOX),
    (MAPPED | {"region_unit": "percent"}, generic({"x": 10, "y": 10, "width": 20, "height": 20}), BOX),
]


@pytest.mark.parametrize(("extra", "answer", "expected"), FORMS)
def test_regions_of_each_dialect_become_fractions_if_their_unit_is_stated(
    stub: HttpStub, made: Made, extra: dict[str, Any], answer: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    stub.at("/ask", a_json(answer))
    verdict = made(path="/ask", **extra).ask(IMAGE, idempotency_key="key").verdict
    found = in_fractions(verdict.regions, verdict.region_format, width_px=300, height_px=200)
    assert found == (None if expected is None else (expected,))


def test_the_unit_is_no_part_of_the_configuration_so_that_an_archived_answer_is_read_anew(made: Made) -> None:
    before, after = made(**MAPPED), made(**MAPPED, region_unit="px", region_box="cxcywh")
    assert before.config == after.config
    raw = json.dumps(generic(PIXELS)).encode()
    assert (before.read(raw).region_format, after.read(raw).region_format) == (None, RegionFormat("px", "cxcywh"))


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"region_unit": "inches"}, "the extra 'region_unit' must be one of px, fraction, percent, thousandth, not 'inches'"),
        ({"region_box": "center"}, "the extra 'region_box' must be one of xywh, xyxy, cxcywh, yxyx, not 'center'"),
    ],
)
def test_a_wrong_unit_or_box_is_named(made: Made, extra: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misconfigured, match=sentence):
        made(**extra)
