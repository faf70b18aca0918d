"""Commands that try an image or a detector without a record."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.parts.http_stub import Reply
from tests.parts.installation import API_KEY, a_photo

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.installation import Installation


def json_reply(**answer: Any) -> Reply:
    return Reply(body=json.dumps(answer).encode(), content_type="application/json")


# ── images


def test_an_image_is_tried_as_a_run_would_and_a_refusal_has_its_code_and_fix(installation: Installation) -> None:
    good = installation.add_image("/good.png")
    missing = installation.stub.at("/missing.png", Reply(status=404))
    said = installation.run("try-image", good, installation.put("a.jpg", a_photo("JPEG")), missing, "http://169.254.169.254/x", "--json")
    assert said.status == 1
    first, second, third, fourth = json.loads(said.out)
    assert (first["ok"], first["media_type"], first["width_px"]) == (True, "image/png", 256)
    assert (second["ok"], second["media_type"]) == (True, "image/jpeg")
    assert (third["code"], third["fix"]) == ("image_not_found", "restore the image or correct image_url, then requeue")
    assert fourth["code"] == "address_blocked"
    assert installation.run("try-image", good).out.startswith(f"{good}: image/png, 256 x 256 pixels, ")
    assert "image_not_found: " in installation.run("try-image", missing).out


# ── detectors


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(a_photo("JPEG"))
    return path


def test_a_detector_is_asked_and_every_expression_is_explained(installation: Installation, photo: Path) -> None:
    installation.stub.at("/detect", json_reply(p=0.75, verdict="bad", echo=f"Bearer {API_KEY}"))
    installation.detector("anomaly_detector", threshold=0.5, answer={"score": "p", "label": "class", "regions": "verdict"})
    (found,) = installation.run("try-detector", "anomaly_detector", str(photo), "--json").json
    assert (found["status"], found["error"], found["verdict"]["score"], found["verdict"]["is_anomaly"]) == (200, None, 0.75, True)
    assert json.loads(found["answer"])["echo"] == "Bearer …"
    assert [(each["field"], each["found"], each["expected"], each["problem"]) for each in found["fields"]] == [
        ("score", "the number 0.75", "a finite number", ""),
        ("label", "null", "a text", ""),
        ("regions", "the string 'bad'", "a list of objects", "it is not a list of objects"),
    ]
    shown = installation.run("try-detector", "anomaly_detector", str(photo)).out
    for words in (f"{photo}: status 200 in ", "answer: {", "the string 'bad'", "is_anomaly"):
        assert words in shown


def test_an_answer_that_cannot_be_read_and_a_refusal_have_status_1_and_say_why(installation: Installation, photo: Path) -> None:
    installation.stub.at("/detect", json_reply(score="high", is_anomaly=True), Reply(status=422, body=b"too dark"))
    unreadable = installation.run("try-detector", "anomaly_detector", str(photo), "--json")
    (found,) = json.loads(unreadable.out)
    assert (unreadable.status, found["verdict"], found["error"]["code"]) == (1, None, "detector_answer_invalid")
    assert found["fields"][0]["problem"] == "it is not a number"
    refused = installation.run("try-detector", "anomaly_detector", str(photo))
    assert (refused.status, "detector_refused" in refused.out, "too dark" in refused.out) == (1, True, True)
    assert installation.run("try-detector", "anomaly_detector", str(photo.parent / "none.jpg")).status == 1


def test_a_saved_answer_is_read_without_a_request_and_drawn(installation: Installation, photo: Path, tmp_path: Path) -> None:
    heat = io.BytesIO()
    Image.new("L", (2, 2), 255).save(heat, "PNG")
    regions = [{"x": 0.25, "y": 0.25, "width": 0.5, "height": 0.5}, {"x_px": 1, "y_px": 1, "width_px": 9, "height_px": 9}, {"name": "x"}]
    answer = {"score": 0.9, "is_anomaly": True, "regions": regions, "heat": b64encode(heat.getvalue()).decode()}
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    mapping = {"score": "score", "is_anomaly": "is_anomaly", "regions": "regions", "heatmap": "heat"}
    installation.detector("anomaly_detector", answer=mapping, region_unit="fraction")
    saved = ("--answer", str(tmp_path / "answer.json"), "--pictures", str(tmp_path / "drawn"), "--json")
    (found,) = installation.run("try-detector", "anomaly_detector", str(photo), *saved).json
    assert installation.stub.requests == []
    assert (found["status"], found["verdict"]["heatmap"]) == (None, f"a PNG of {len(heat.getvalue())} bytes")
    with Image.open(found["picture"]) as drawn:
        assert (drawn.size, drawn.getpixel((64, 100))) == ((256, 256), (255, 0, 0))
        red, green, _ = drawn.getpixel((200, 20))  # type: ignore[misc]  # RGB
        assert red > green + 50


def test_neither_an_image_nor_an_answer_is_wrong_usage(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert installation.run("try-detector", "anomaly_detector").status == 2
    assert installation.run("try-detector", "anomaly_detector", "a.jpg", "b.jpg", "--answer", str(tmp_path / "a.json")).status == 2
