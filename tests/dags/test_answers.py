"""Answers and refusals of a detector, through the real DAG."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.dags.conftest import ANSWER, SECRET, a_png
from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from tests.dags.conftest import World
    from tests.parts.http_stub import Seen


def asked(world: World) -> int:
    return sum(seen.method == "POST" for seen in world.stub.requests)


def mapped(world: World, **extra: Any) -> dict[str, str]:
    """The environment with more in the extra of the detector's connection."""
    detector = json.loads(world.env["AIRFLOW_CONN_ANOMALY_DETECTOR"])
    detector["extra"] |= extra
    return {"AIRFLOW_CONN_ANOMALY_DETECTOR": json.dumps(detector)}


@pytest.mark.parametrize("body", [b'{"detail": "Model is being loaded"}', b"{}", b"[]", b'"queued"', b"<html>busy</html>"])
def test_a_detector_that_answers_nothing_readable_is_asked_five_times_and_each_answer_is_kept(world: World, body: bytes) -> None:
    world.add(20)
    world.detector(Reply(body=body))
    ended = world.run(env=mapped(world, answer={"score": "score", "is_anomaly": "score > `0.5`"}), chunk_size=20)
    assert ended.state == "failed"
    assert world.statuses() == {"pending": 20}
    assert world.counted("records", "attempts") == {0: 20}
    assert 1 <= asked(world) <= 5
    kept = world.bucket.keys("unreadable")
    assert len(kept) == asked(world)
    assert {world.bucket.get(key.removeprefix(f"{world.bucket.prefix}/")) for key in kept} == {body}
    errors = [row["last_error"] for row in world.sql.execute("select last_error from anomaly.records where last_error is not null")]
    assert len(errors) == asked(world)
    for error in errors:
        assert ("expected a number" if body[:1] != b"<" else "is not JSON") in error
        assert any(key in error for key in kept)
        assert body.decode() in error
    assert "expected a number" in ended.output or "is not JSON" in ended.output


def test_a_wrong_form_field_quarantines_nothing_and_the_run_has_the_detectors_words(world: World) -> None:
    world.add(40)
    refusal = {"detail": [{"loc": ["body", "image"], "msg": "Field required", "type": "missing", "input": SECRET}], "hint": SECRET}
    world.detector(Reply(status=422, body=json.dumps(refusal).encode()))
    ended = world.run(env=mapped(world, format="multipart", field="file"), chunk_size=40)
    assert ended.state == "failed"
    assert world.statuses() == {"pending": 40}
    assert asked(world) <= 5
    assert "answered 422: body.image: Field required" in ended.output
    assert SECRET not in ended.output + world.log()


@pytest.mark.parametrize("status", [403, 404, 400])
def test_a_refusal_of_one_image_among_forty_quarantines_that_record(world: World, status: int) -> None:
    world.add(40)
    words = json.dumps({"error": f"no access with {SECRET}"}).encode()
    world.detector(lambda seen: Reply(status=status, body=words) if seen.body == a_png(0) else ANSWER)
    ended = world.run(chunk_size=40)
    assert ended.state == "success"
    assert world.statuses() == {"done": 39, "quarantined": 1}
    [refused] = world.sql.execute("select * from anomaly.records where status = 'quarantined'").fetchall()
    assert refused["last_error_code"] == "detector_refused"
    assert refused["last_error"].endswith(f"answered {status}: no access with …")
    assert SECRET not in ended.output + world.log()


def test_an_optional_field_that_does_not_fit_costs_no_verdict_and_one_warning(world: World) -> None:
    world.add(20)
    odd = '{"score": 0.25, "is_anomaly": false, "u": {"total_tokens": 1' + "0" * 400 + '}, "l": "\\ud800", "r": [{"x": NaN}]}'
    world.detector(Reply(body=odd.encode()))
    answer = {"score": "score", "is_anomaly": "is_anomaly", "usage": "u", "label": "l", "regions": "r"}
    ended = world.run(env=mapped(world, answer=answer), chunk_size=20)
    assert ended.state == "success"
    assert world.statuses() == {"done": 20}
    assert world.counted("ai_results", "label") == {"?": 20}
    assert world.log().count("usage of an answer dropped") == world.log().count("regions of an answer dropped") == 1


def test_a_model_that_is_loading_is_waited_for(world: World) -> None:
    world.add(10)
    loading = Reply(body=b'{"error": "Model m is currently loading", "estimated_time": 0.2}')

    def answer(seen: Seen) -> Reply:  # noqa: ARG001  # of whichever image
        return ANSWER if asked(world) > 3 else loading

    world.detector(answer)
    ended = world.run(chunk_size=10)
    assert ended.state == "success"
    assert world.statuses() == {"done": 10}
    assert world.counted("records", "attempts") == {1: 10}
    assert world.bucket.keys("unreadable") == []
