"""The doctor tries the image of the oldest due record, and asks the detector about an image of one's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from PIL import Image as Pillow

from anomaly.maintenance.check_images import HOST, RULES
from tests.parts.doctor_patient import VERDICT
from tests.parts.http_stub import Reply, Seen

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parts.doctor_patient import Patient


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    Pillow.new("RGB", (32, 24), "red").save(path)
    return path


def due(patient: Patient, *urls: str) -> None:
    """Add records, the first of which is the oldest."""
    with psycopg.connect(patient.database) as connection:
        for number, url in enumerate(urls):
            captured = f"2026-01-{number + 1:02}T00:00:00Z"
            connection.execute("insert into anomaly.records (image_url, captured_at) values (%s, %s)", [url, captured])


def allow(patient: Patient, **extra: Any) -> None:
    patient.set_images(**{"allow_networks": ["127.0.0.0/8"], "allow_ports": ["1-65535"], **extra})


def about_images(lines: list[str]) -> str:
    [line] = [line for line in lines if "oldest due record" in line]
    return line


# ── the oldest due record


def test_the_oldest_due_image_is_downloaded_once(patient: Patient, photo: Path) -> None:
    due(patient, patient.stub.at("/oldest.jpg", Reply(body=photo.read_bytes())), patient.stub.url("/newer.jpg"))
    allow(patient)
    said = patient.said()
    assert [line for line in said if not line.startswith("ok")] == []
    assert about_images(said) == "ok  anomaly_images: the image of the oldest due record, 1, was downloaded: image/jpeg, 32 x 24 pixels"
    assert len(patient.stub.asked("/oldest.jpg")) == 1
    assert patient.stub.asked("/newer.jpg") == []


def test_without_due_records_nothing_is_downloaded(patient: Patient) -> None:
    assert not any("oldest due record" in line for line in patient.said())


@pytest.mark.parametrize(
    "url", ["http://10.1.2.3/a.png", "https://[fd00::1]/a.png", "http://169.254.169.254/a.png", "http://images.example:8443/a.png"]
)
def test_a_rule_that_refuses_the_address_is_named(patient: Patient, url: str) -> None:
    due(patient, url)
    line = about_images(patient.bad())
    assert line.startswith("BAD anomaly_images: the image of the oldest due record, 1, cannot be downloaded: ")
    assert line.endswith(RULES)


def test_a_port_that_is_not_allowed_is_named(patient: Patient) -> None:
    due(patient, patient.stub.url("/a.png"))
    allow(patient, allow_ports=["8000-8010"])
    line = about_images(patient.bad())
    assert "images may not come from port" in line
    assert line.endswith(RULES)
    assert patient.stub.asked("/a.png") == []


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=401),
        Reply(status=403),
        Reply(status=503),
        Reply(status=429),
        Reply(reset=True),
        Reply(status=302, headers={"Location": "http://10.1.2.3/"}),
    ],
    ids=["401", "403", "503", "429", "RST", "redirect"],
)
def test_a_host_that_gives_no_image_is_bad_after_one_request(patient: Patient, reply: Reply) -> None:
    due(patient, patient.stub.at("/a.png", reply))
    allow(patient)
    assert "cannot be downloaded" in about_images(patient.bad())
    assert len(patient.stub.asked("/a.png")) == 1


def test_a_proxy_that_is_down_is_bad(patient: Patient) -> None:
    due(patient, "http://images.example/a.png")
    allow(patient, proxy="http://127.0.0.1:9")
    assert about_images(patient.bad()).endswith(HOST)


@pytest.mark.parametrize(
    ("url", "reply", "code"),
    [
        ("", Reply(status=404), "image_not_found"),
        ("", Reply(body=b"<html>"), "image_not_an_image"),
        ("http://[", Reply(), "address_blocked"),
        ("ftp://host/a.png", Reply(), "address_blocked"),
    ],
)
def test_a_record_that_is_bad_by_itself_fails_no_check(patient: Patient, url: str, reply: Reply, code: str) -> None:
    due(patient, url or patient.stub.at("/a.png", reply))
    allow(patient)
    [line] = patient.see()
    assert f"the image of the oldest due record, 1, will end with {code}: " in line
    assert patient.bad() == []


# ── --image


def only_photos(seen: Seen) -> Reply:
    if seen.body.startswith(b"\xff\xd8"):
        return VERDICT
    return Reply(status=422, body=json.dumps({"detail": "no solar cell found"}).encode(), content_type="application/json")


def test_a_detector_that_accepts_photos_only_is_asked_about_ones_own(patient: Patient, photo: Path) -> None:
    patient.stub.at("/detect", only_photos)
    [line] = patient.bad()
    assert "no solar cell found" in line
    assert line.endswith("if it accepts photos only, run bin/anomaly doctor --image with the path or address of one")
    assert patient.bad(image=str(photo)) == []
    allow(patient)
    assert patient.bad(image=patient.stub.at("/mine.jpg", Reply(body=photo.read_bytes()))) == []
    assert [seen.body for seen in patient.stub.asked("/detect")][1:] == [photo.read_bytes()] * 2


def test_a_detector_that_refuses_ones_own_photo_gets_no_hint(patient: Patient, photo: Path) -> None:
    patient.stub.at("/detect", Reply(status=422, body=b'{"detail": "blurred"}', content_type="application/json"))
    [line] = patient.bad(image=str(photo))
    assert "blurred" in line
    assert "--image" not in line


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        ("not-there.jpg", "the image not-there.jpg cannot be read: No such file or directory"),
        ("/", "the image / cannot be read: Is a directory"),
        ("http://10.1.2.3/a.png", "10.1.2.3"),
        (__file__, "no image in a format"),
    ],
)
def test_an_image_that_cannot_be_used_is_named_and_the_detector_not_asked(patient: Patient, where: str, sentence: str) -> None:
    [line] = patient.bad(image=where)
    assert line.startswith("BAD anomaly_detector: ")
    assert sentence in line
    assert patient.stub.asked("/detect") == []
