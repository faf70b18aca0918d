"""Text from outside can neither end a line of a task's log, nor control a terminal that shows it, nor turn its direction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.dags.conftest import ANSWER, a_png
from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from tests.dags.conftest import World

CONTROLS = ["\n", "\r", "\x1b[31m", "\x9b31m", "\x08", "\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\u2066", "\u200f", "\u200b", "\ufeff"]
HOSTILE = "".join(f"{control}FORGED" for control in CONTROLS)
MAPPING = {"score": "score", "is_anomaly": "is_anomaly", "label": "label", "reason": "reason"}


def png(number: int, **fields: object) -> Reply:
    return Reply(body=a_png(number), content_type="image/png", **fields)  # type: ignore[arg-type]  # the fields of a reply


def test_text_from_outside_is_escaped_in_the_log_of_a_task_and_in_the_log_file(world: World) -> None:
    world.add(3)
    world.sql.execute(
        "insert into anomaly.records (image_url, captured_at) values (%s, now()), (%s, now())",
        [f"http://images.example/{HOSTILE}", f"http://{HOSTILE}/x.png"],
    )
    world.add_one(Reply(raw=f"HTTP/1.1 302 Found\r\nLocation: ftp://a/{HOSTILE[7:]}\r\nContent-Length: 0\r\n\r\n".encode()))
    world.add_one(Reply(raw=f"HTTP/1.1 404 {HOSTILE[7:]}\r\nX: {HOSTILE[7:]}\r\nContent-Length: 0\r\n\r\n".encode()))
    texts = json.dumps(HOSTILE)
    answers = {
        a_png(901): Reply(status=422, body=f'{{"detail": {texts}, {texts}: 1}}'.encode(), content_type="application/json"),
        a_png(902): Reply(body=f'{{"score": {texts}}}'.encode(), content_type="application/json"),
        a_png(903): Reply(body=HOSTILE.encode(), content_type="text/plain"),
        a_png(904): Reply(
            body=f'{{"score": 0.5, "is_anomaly": true, "label": {texts}, "reason": {texts}, {texts}: {texts}}}'.encode(),
            content_type="application/json",
        ),
        a_png(905): Reply(status=500, body=HOSTILE.encode(), content_type="text/plain"),
    }
    for number in range(901, 906):
        world.add_one(png(number))
    world.detector(lambda seen: answers.get(seen.body, ANSWER))
    connection = json.loads(world.env["AIRFLOW_CONN_ANOMALY_DETECTOR"])
    connection["extra"]["answer"] = MAPPING
    changed = {"AIRFLOW_CONN_ANOMALY_DETECTOR": json.dumps(connection), "ANOMALY_DETECTOR_RETRIES": "0"}

    ended = world.run(chunk_size=20, env=changed)

    for written in (ended.output, world.log()):
        assert "FORGED" in written
        assert [control for control in CONTROLS if f"{control}FORGED" in written] == []
    stored = world.sql.execute("select last_error from anomaly.records where last_error like '%%FORGED%%'").fetchall()
    assert len(stored) >= 5
    assert all(row["last_error"].isprintable() for row in stored)
