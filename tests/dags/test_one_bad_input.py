"""One bad record among many harms only itself, and one wrong setting harms no record."""

from __future__ import annotations

import io
import json
import os
import random
import string
import time
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from anomaly.maintenance.doctor import Doctor
from tests.dags.conftest import ANSWER, SECRET, a_png
from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.dags.conftest import World
    from tests.parts.http_stub import Seen

GOOD = 400
RED_WITHIN_S = 30.0


def png(body: bytes) -> Reply:
    return Reply(body=body, content_type="image/png")


def answered(body: object, status: int = 200) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status=status, body=raw, content_type="application/json")


def a_jpeg() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(out, "JPEG")
    return out.getvalue()


def redirect(to: str) -> Reply:
    return Reply(status=302, headers={"Location": to})


BAD_IMAGES: dict[str, tuple[Reply, str]] = {
    "not found": (Reply(status=404), "image_not_found"),
    "gone": (Reply(status=410), "image_not_found"),
    "unauthorized": (Reply(status=401), "image_denied"),
    "forbidden": (Reply(status=403), "image_denied"),
    "legal reasons": (Reply(status=451), "image_denied"),
    "a page": (png(b"<html>sorry</html>"), "image_not_an_image"),
    "empty": (png(b""), "image_not_an_image"),
    "cut PNG": (png(a_png(901)[:-20]), "image_truncated"),
    "cut JPEG": (png(a_jpeg()[:-20]), "image_truncated"),
    "cut body": (Reply(body=a_png(902), cut_at=20), "image_unavailable"),
    "reset": (Reply(reset=True), "image_unavailable"),
    "server error": (Reply(status=500), "image_unavailable"),
    "no HTTP": (Reply(raw=b"220 mail.example ESMTP\r\n"), "image_unavailable"),
    "length of 4,301 digits": (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 4301 + b"\r\n\r\nx"), "image_unavailable"),
    "redirect to http://[": (redirect("http://["), "address_blocked"),
    "redirect to //[": (redirect("//["), "address_blocked"),
    "redirect to [cdn]": (redirect("https://[cdn]/x.png"), "address_blocked"),
    "redirect to a sign that is many letters": (
        Reply(raw="HTTP/1.1 302 Found\r\nLocation: https://\u2100.example/x.png\r\nContent-Length: 0\r\n\r\n".encode()),
        "address_blocked",
    ),
    "redirect to another scheme": (redirect("ftp://127.0.0.1/x.png"), "address_blocked"),
    "redirect to metadata": (redirect("http://169.254.169.254/latest/meta-data/"), "address_blocked"),
    "redirect for ever": (redirect("?"), "image_denied"),
}
BAD_ADDRESSES = {
    "ht\ntp://a": "address_blocked",
    "http://": "address_blocked",
    "not an address": "address_blocked",
    "file:///etc/passwd": "address_blocked",
    "http://10.1.2.3/x.png": "address_blocked",
    "http://[::1": "address_blocked",
}
BAD_ANSWERS: dict[str, tuple[Reply, str]] = {
    "a redirect": (answered(b"", 302), "detector_refused"),
    "400": (answered({"detail": "bad image"}, 400), "detector_refused"),
    "403 about one image": (answered({"detail": "moderation"}, 403), "detector_refused"),
    "404 about one image": (answered({"detail": "no such camera"}, 404), "detector_refused"),
    "413": (answered({"detail": "too large"}, 413), "detector_refused"),
    "422": (answered({"detail": [{"msg": "unsupported"}]}, 422), "detector_refused"),
    "500": (answered({"detail": "oops"}, 500), "detector_failed"),
    "no JSON": (answered(b"<html>"), "detector_answer_invalid"),
    "an empty object": (answered({}), "detector_answer_invalid"),
    "a list": (answered([]), "detector_answer_invalid"),
    "a word": (answered("queued"), "detector_answer_invalid"),
    "a score that is text": (answered({"score": "high", "is_anomaly": False}), "detector_answer_invalid"),
}


@pytest.mark.timeout(300)
def test_each_of_forty_bad_records_among_four_hundred_good_ones_ends_with_its_own_code(world: World) -> None:
    good = world.add(GOOD)
    bad: dict[int, tuple[str, str]] = {}
    for name, (reply, code) in BAD_IMAGES.items():
        bad[world.add_one(reply)] = name, code
    for address, code in BAD_ADDRESSES.items():
        row = world.sql.execute(
            "insert into anomaly.records (image_url, captured_at) values (%s, now() - interval '1 hour') returning id", [address]
        ).fetchone()
        assert row
        bad[row["id"]] = address, code
    replies: dict[bytes, Reply] = {}
    for number, (name, (reply, code)) in enumerate(BAD_ANSWERS.items(), start=2000):
        replies[a_png(number)] = reply
        bad[world.add_one(png(a_png(number)))] = name, code
    world.detector(lambda seen: replies.get(seen.body, ANSWER))
    ended = world.run(chunk_size=250, env={"ANOMALY_DETECTOR_SLOTS": "8", "ANOMALY_IMAGE_RETRIES": "1"})
    assert {name: world.record(record_id)["last_error_code"] for record_id, (name, _) in bad.items()} == dict(bad.values())
    assert {world.record(record_id)["status"] for record_id in good} == {"done"}
    assert {world.record(record_id)["attempts"] for record_id in bad} == {1}
    assert ended.state == "success"
    assert world.statuses()["done"] == GOOD


LONG_LABEL = "".join(random.Random(1).choices(string.printable[:90], k=3900))  # incompressible, so that no row of an index holds it
REFUSED_ROWS = {
    "a trigger": (
        """create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not this one'; end $$;
           create trigger refuse before insert on anomaly.ai_results for each row when (new.label <> '') execute function refuse()""",
        "not this one",
    ),
    "a constraint": ("alter table anomaly.ai_results add constraint short check (label = '')", 'violates check constraint "short"'),
    "an index": ("create index on anomaly.ai_results (label)", "index row size"),
}


@pytest.mark.parametrize("by", REFUSED_ROWS)
def test_a_result_that_the_database_refuses_concerns_its_record_and_the_others_are_done(by: str, world: World) -> None:
    statement, said = REFUSED_ROWS[by]
    world.sql.execute(statement)
    ids = world.add(6)
    answer = {"score": 0.5, "is_anomaly": True}
    world.detector(lambda seen: answered(answer | {"label": LONG_LABEL if seen.body == a_png(2) else ""}))
    changed = detector(extra={"answer": {"score": "score", "is_anomaly": "is_anomaly", "label": "label"}})(world)
    ended = world.run(env=changed)
    refused = world.record(ids[2])
    assert ended.state == "success"
    assert world.statuses() == {"done": 5, "pending": 1}
    assert (refused["last_error_code"], refused["attempts"]) == ("result_refused", 1)
    assert said in refused["last_error"]


def test_a_database_that_refuses_every_result_stops_the_run_and_blames_no_record(world: World) -> None:
    statement, said = REFUSED_ROWS["a trigger"]
    world.sql.execute(statement.replace("when (new.label <> '')", ""))
    world.add(40)
    world.detector(ANSWER)
    ended = world.run(chunk_size=40)
    assert ended.state == "failed"
    assert said in ended.output
    assert world.statuses() == {"pending": 40}
    assert world.counted("records", "attempts") == {0: 40}

    world.sql.execute("drop trigger refuse on anomaly.ai_results")
    assert world.run(chunk_size=40).state == "success"
    assert world.statuses() == {"done": 40}
    assert sum(seen.path.startswith("/detect") for seen in world.stub.requests) == 40


def refuses(status: int, body: object) -> Callable[[World], dict[str, str]]:
    """The detector answers this, whatever it is asked."""

    def arrange(world: World) -> dict[str, str]:
        world.detector(answered(body, status))
        return {}

    return arrange


def host_answers(status: int) -> Callable[[World], dict[str, str]]:
    def arrange(world: World) -> dict[str, str]:
        for number in range(1, world.added + 1):
            world.stub.at(f"/image/{number}", Reply(status=status))
        return {}

    return arrange


def env(**variables: str) -> Callable[[World], dict[str, str]]:
    return lambda _: variables


def images(**extra: Any) -> Callable[[World], dict[str, str]]:
    return env(AIRFLOW_CONN_ANOMALY_IMAGES=json.dumps({"conn_type": "http", "extra": extra}))


def detector(**changed: Any) -> Callable[[World], dict[str, str]]:
    def arrange(world: World) -> dict[str, str]:
        connection = json.loads(world.env["AIRFLOW_CONN_ANOMALY_DETECTOR"])
        connection |= {name: value for name, value in changed.items() if name != "extra"}
        connection["extra"] |= changed.get("extra", {})
        return {"AIRFLOW_CONN_ANOMALY_DETECTOR": json.dumps(connection)}

    return arrange


def bucket(**changed: Any) -> Callable[[World], dict[str, str]]:
    def arrange(world: World) -> dict[str, str]:
        connection = json.loads(world.env["AIRFLOW_CONN_ANOMALY_S3"])
        connection |= {name: value for name, value in changed.items() if name != "extra"}
        connection["extra"] |= changed.get("extra", {})
        return {"AIRFLOW_CONN_ANOMALY_S3": json.dumps(connection)}

    return arrange


WRONG_SETTINGS: dict[str, tuple[Callable[[World], dict[str, str]], str]] = {
    "a form field that the detector does not know": (refuses(422, {"detail": "field 'image' is required"}), "field 'image' is required"),
    "a body that the detector does not read": (refuses(400, {"error": "expected multipart"}), "expected multipart"),
    "a media type that it does not take": (refuses(415, {"error": "unsupported media type"}), "415"),
    "images that are too large for it": (refuses(413, {"error": "payload too large"}), "413"),
    "a path that it does not have": (refuses(404, {"detail": "Not Found"}), "404"),
    "a key without rights": (refuses(403, {"error": {"message": "no access to this model"}}), "403"),
    "a detector that has moved": (refuses(301, b""), "answered 301"),
    "a wrong key": (refuses(401, {"error": {"message": "who are you"}}), "401"),
    "no credit": (refuses(402, {"error": {"message": "pay first"}}), "402"),
    "a mapping to a field that is not there": (refuses(200, {"result": {"probability": 0.5}}), "score"),
    "a login page": (refuses(200, b"<html>log in</html>"), "JSON"),
    "an answer that is a queue's": (refuses(200, "queued"), "score"),
    "an empty answer": (refuses(200, {}), "score"),
    "an error that comes as success": (refuses(200, {"detail": "unknown camera"}), "score"),
    "an extra that no dialect has": (detector(extra={"pth": "/detect"}), "'pth'"),
    "a dialect that does not exist": (detector(extra={"dialect": "openapi"}), "'openapi'"),
    "a host that wants a login": (host_answers(401), "401"),
    "a host that forbids": (host_answers(403), "403"),
    "a private network that is not allowed": (images(allow_ports=["1-65535"]), "allow_networks"),
    "a port that is not allowed": (images(allow_networks=["127.0.0.0/8"]), "allow_ports"),
    "a bucket that does not exist": (bucket(extra={"bucket": "nobody-made-it"}), "no such bucket"),
    "a wrong secret of the bucket": (bucket(password="wrong"), "secret key is wrong"),  # noqa: S106  # it is what the test gives
    "a setting out of bounds": (env(ANOMALY_DETECTOR_SLOTS="0"), "ANOMALY_DETECTOR_SLOTS"),
    "a setting that does not exist": (env(ANOMALY_DETECTOR_SLOT="4"), "ANOMALY_DETECTOR_SLOT"),
}


@pytest.mark.parametrize("what", WRONG_SETTINGS)
def test_the_doctor_finds_a_wrong_setting_beforehand(what: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    arrange, said = WRONG_SETTINGS[what]
    world.add(1)
    for name, value in (world.env | arrange(world)).items():
        monkeypatch.setenv(name, value)
    problems = [finding.problem for finding in Doctor(os.environ).findings() if finding.problem]
    assert any(said in problem for problem in problems), problems
    assert world.statuses() == {"pending": 1}
    assert world.counted("records", "attempts") == {0: 1}


@pytest.mark.parametrize("what", WRONG_SETTINGS)
def test_a_wrong_setting_quarantines_nothing_and_the_run_is_red_at_once_with_the_reason(what: str, world: World) -> None:
    arrange, said = WRONG_SETTINGS[what]
    world.add(40)
    changed = arrange(world)
    ended = world.run(chunk_size=40, env=changed)
    over = time.monotonic()
    assert ended.state == "failed"
    assert world.statuses() == {"pending": 40}
    assert world.counted("records", "attempts") == {0: 40}
    assert said in ended.output
    assert SECRET not in ended.output
    first: Seen | None = next(iter(world.stub.requests), None)
    assert first is None or over - first.at < RED_WITHIN_S
