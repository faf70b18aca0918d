"""Tests of each dialect against a scripted HTTP server."""

from __future__ import annotations

import json
import logging
import re
import socket
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from anomaly import detectors
from anomaly.detectors import DetectorConnection
from anomaly.errors import DetectorAnswerInvalid, DetectorFailed, DetectorOverloaded, DetectorRefused, Misconfigured
from anomaly.settings import Settings
from tests.contract.detectors.conftest import CONTENT, IMAGE, Made, a_json
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from anomaly.detectors import Detector
    from anomaly.models.answers import Answer

HEATMAP = b"\x89PNG\r\n\x1a\n and more"
REFERENCE = {
    "score": 12.5,
    "z": 4.0,
    "p_value": 0.01,
    "threshold": 9.0,
    "is_anomaly": True,
    "label": "defective",
    "regions": [{"x": 1, "y": 2, "width": 3, "height": 4, "score": 12.5}],
    "heatmap": b64encode(HEATMAP).decode(),
    "model": {"name": "padim", "version": "1.2"},
    "usage": {"images": 1},
}
OPENAI_REPORT = {"is_anomaly": True, "score": 0.9, "label": "crack", "reason": "A crack.", "regions": []}


def ask(detector: Detector) -> Answer:
    return detector.ask(IMAGE, idempotency_key="key-1")


# --- reference and generic


def test_the_reference_detector_is_asked_with_the_bytes_and_read_in_full(stub: HttpStub, made: Made) -> None:
    stub.at("/v1/detect", a_json(REFERENCE))
    answer = ask(made())
    seen, verdict = stub.requests[0], answer.verdict

    assert (seen.method, seen.body, seen.headers["content-type"], seen.headers["idempotency-key"]) == (
        "POST",
        CONTENT,
        "image/jpeg",
        "key-1",
    )
    assert (verdict.score, verdict.threshold, verdict.is_anomaly, verdict.label) == (12.5, 9.0, True, "defective")
    assert (verdict.regions, verdict.heatmap, verdict.usage) == (tuple(REFERENCE["regions"]), HEATMAP, {"images": 1})  # type: ignore[arg-type]  # a list
    assert verdict.detector == "padim@1.2"
    assert json.loads(answer.raw) == REFERENCE
    assert answer.latency_ms > 0
    assert not answer.reused


def test_an_archived_answer_reads_as_it_did_when_it_came(stub: HttpStub, made: Made) -> None:
    stub.at("/v1/detect", a_json(REFERENCE))
    detector = made()
    answer = ask(detector)

    assert detector.read(answer.raw) == answer.verdict


def test_a_form_carries_the_image_as_one_file(stub: HttpStub, made: Made) -> None:
    stub.at("/predict", a_json({"score": 0.1, "is_anomaly": False}))
    ask(made(dialect="generic", path="/predict", format="multipart", field="image"))
    kind, _, boundary = stub.requests[0].headers["content-type"].partition("; boundary=")
    head, _, body = stub.requests[0].body.partition(b"\r\n\r\n")

    assert kind == "multipart/form-data"
    assert head.startswith(b"--" + boundary.encode() + b'\r\nContent-Disposition: form-data; name="image"; filename="image.jpeg"')
    assert body == CONTENT + b"\r\n--" + boundary.encode() + b"--\r\n"


def test_a_json_template_carries_the_image_in_base64(stub: HttpStub, made: Made) -> None:
    stub.at("/", a_json({"score": 0.1, "is_anomaly": False}))
    template = {"inputs": [{"data": "data:{media_type};base64,{image_base64}", "id": "{sha256}"}], "braces": "{kept}"}
    ask(made(base="/", dialect="generic", format="json", body=template))
    sent = json.loads(stub.requests[0].body)

    assert stub.requests[0].headers["content-type"] == "application/json"
    assert sent["inputs"][0] == {"data": f"data:image/jpeg;base64,{b64encode(CONTENT).decode()}", "id": IMAGE.sha256}
    assert sent["braces"] == "{kept}"


def test_an_answer_of_any_shape_is_mapped(stub: HttpStub, made: Made) -> None:
    stub.at(
        "/",
        a_json(
            {"DetectAnomalyResult": {"IsAnomalous": True, "Confidence": 98.0, "Anomalies": [{"Name": "background"}, {"Name": "crack"}]}}
        ),
    )
    answer = {
        "score": "DetectAnomalyResult.Confidence",
        "is_anomaly": "DetectAnomalyResult.IsAnomalous",
        "label": "DetectAnomalyResult.Anomalies[?Name != 'background'].Name | [0]",
        "regions": "DetectAnomalyResult.Anomalies",
    }
    verdict = ask(made(base="/", dialect="generic", answer=answer, scale=0.01, model="lookout")).verdict

    assert (verdict.score, verdict.is_anomaly, verdict.label, verdict.detector) == (0.98, True, "crack", "lookout@unversioned")
    assert len(verdict.regions) == 2


@pytest.mark.parametrize(
    ("extra", "said", "read"),
    [
        ({"answer": {"score": "s", "is_anomaly": "a"}}, {"s": 0.2, "a": True}, (0.2, True)),
        ({"answer": {"score": "s", "is_anomaly": "a"}, "threshold": 0.5}, {"s": 0.2, "a": True}, (0.2, False)),
        ({"answer": {"score": "s"}, "threshold": 0.5}, {"s": 0.5}, (0.5, True)),
        ({"answer": {"score": "s", "threshold": "t"}}, {"s": 3, "t": 4}, (3.0, False)),
        ({"answer": {"score": "s"}, "scale": -1, "offset": 1, "threshold": 0.5}, {"s": 0.2}, (0.8, True)),
        ({"answer": {"score": "s"}, "scale": 0.01, "threshold": 0.5}, {"s": 60}, (0.6, True)),
        ({"answer": {"is_anomaly": "a"}}, {"a": True}, (1.0, True)),
        ({"answer": {"is_anomaly": "label == 'bad'"}}, {"label": "good"}, (0.0, False)),
    ],
)
def test_score_and_threshold_make_the_verdict(
    stub: HttpStub, made: Made, extra: dict[str, Any], said: Any, read: tuple[float, bool]
) -> None:
    stub.at("/", a_json(said))
    verdict = ask(made(base="/", dialect="generic", **extra)).verdict

    assert (verdict.score, verdict.is_anomaly) == read


HOSTILE = [
    b"",
    b"<html>",
    b"null",
    b"[]",
    b'"text"',
    b"{}",
    b'{"score": NaN, "is_anomaly": true}',
    b'{"score": 1e999, "is_anomaly": true}',
    b'{"score": "0.5", "is_anomaly": true}',
    b'{"score": true, "is_anomaly": true}',
    b'{"score": 0.5, "is_anomaly": "yes"}',
    b'{"score": 1' + b"0" * 400 + b', "is_anomaly": true}',
    b"[" * 100_000,
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("raw", HOSTILE, ids=lambda raw: raw[:60].decode("latin-1"))
def test_an_answer_that_is_not_as_agreed_is_invalid(stub: HttpStub, made: Made, raw: bytes) -> None:
    stub.at("/v1/detect", Reply(body=raw))
    with pytest.raises(DetectorAnswerInvalid):
        ask(made())


def test_characters_that_postgres_cannot_store_are_removed(stub: HttpStub, made: Made) -> None:
    odd = {"label": "a\0b\ud800c", "regions": [{"na\0me": "\0"}], "usage": {"x": "\udfff"}}
    stub.at("/v1/detect", a_json({**REFERENCE, **odd}))
    verdict = ask(made()).verdict

    assert (verdict.label, verdict.regions, verdict.usage) == ("ab?c", ({"name": ""},), {"x": "?"})
    assert "\\u0000" not in json.dumps(verdict.regions)


def test_a_heat_map_may_be_a_data_url(stub: HttpStub, made: Made) -> None:
    stub.at("/v1/detect", a_json({**REFERENCE, "heatmap": f"data:image/png;base64,{REFERENCE['heatmap']}"}))

    assert ask(made()).verdict.heatmap == HEATMAP


# --- one try, bounded


@pytest.mark.parametrize("reply", [Reply(status=500), Reply(status=503), Reply(reset=True), Reply(raw=b""), Reply(status=408)])
def test_the_session_never_retries(stub: HttpStub, made: Made, reply: Reply) -> None:
    stub.at("/v1/detect", reply, a_json(REFERENCE))
    with pytest.raises((DetectorFailed, DetectorOverloaded)):
        ask(made())

    assert len(stub.requests) == 1


def test_a_refused_connection_is_tried_once(stub: HttpStub, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    class Watched(socket.socket):
        def connect(self, address: Any) -> None:
            tried.append(address)
            super().connect(address)

    detector = made()
    stub.__exit__()
    monkeypatch.setattr(socket, "socket", Watched)
    with pytest.raises(DetectorFailed, match="NewConnectionError"):
        ask(detector)

    assert len(tried) == 1


def test_the_timeouts_of_the_settings_reach_the_socket(stub: HttpStub, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    set_s: list[float | None] = []

    class Watched(socket.socket):
        def settimeout(self, value: float | None) -> None:
            set_s.append(value)
            super().settimeout(value)

    stub.at("/v1/detect", a_json(REFERENCE))
    detector = made()
    monkeypatch.setattr(socket, "socket", Watched)
    ask(detector)

    assert set_s == [5.0, 30.0]  # to connect, then to read


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(stub: HttpStub, made: Made, status: int) -> None:
    stub.at("/v1/detect", Reply(status=status, headers={"Location": stub.at("/else", a_json(REFERENCE))}))
    with pytest.raises(DetectorRefused, match=str(status)):
        ask(made(key="p"))

    assert len(stub.requests) == 1


def test_a_redirects_large_body_is_not_read(stub: HttpStub, made: Made) -> None:
    stub.at(
        "/v1/detect", Reply(status=302, headers={"Location": "/b", "Content-Length": "1000000000"}, body=b" " * 200_000, cut_at=200_000)
    )
    with pytest.raises(DetectorRefused, match="302"):
        ask(made())


def test_an_answer_over_the_limit_is_not_read_to_its_end(stub: HttpStub, made: Made) -> None:
    stub.at("/v1/detect", Reply(body=b" " * 200_000, cut_at=150_000))
    with pytest.raises(DetectorAnswerInvalid, match="more than 1024 bytes"):
        ask(made(settings={"detector_answer_max_bytes": 1024}))


@pytest.mark.parametrize(
    "reply", [a_json(REFERENCE, cut_at=20), a_json(REFERENCE, cut_at=20, reset=True), a_json(REFERENCE, chunked=True, cut_at=20)]
)
def test_an_answer_that_is_cut_off_is_a_failure(stub: HttpStub, made: Made, reply: Reply) -> None:
    stub.at("/v1/detect", reply)
    with pytest.raises(DetectorFailed, match="no answer"):
        ask(made())


def test_silence_is_a_failure(stub: HttpStub, made: Made) -> None:
    stub.at("/v1/detect", a_json(REFERENCE, headers_after_s=60))
    with pytest.raises(DetectorFailed, match="ReadTimeout"):
        ask(made(settings={"detector_read_timeout_s": 0.1}))


@pytest.mark.parametrize("part", ["headers", "body"])
def test_an_answer_that_trickles_ends_at_the_deadline(stub: HttpStub, made: Made, part: str) -> None:
    stub.at("/v1/detect", a_json({**REFERENCE, "more": "x" * 2000}, trickled=part, trickle_s=0.05))
    with pytest.raises(DetectorFailed):
        ask(made(settings={"detector_deadline_s": 1}))


def test_all_slots_keep_their_connections(stub: HttpStub, made: Made) -> None:
    stub.at("/v1/detect", a_json(REFERENCE))
    detector = made(settings={"detector_slots": 32})
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: ask(detector), range(400)))

    assert len(answers) == len(stub.requests) == 400
    assert stub.connections <= 32


# --- language models


def test_openai_is_asked_for_a_schema_and_read(stub: HttpStub, made: Made) -> None:
    message = {"role": "assistant", "content": json.dumps(OPENAI_REPORT), "refusal": None}
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    stub.at("/v1/chat/completions", a_json({"model": "m-2026", "choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}))
    verdict = ask(made(base="/v1", dialect="openai_chat", model="m", key="p", detail="low", request={"temperature": 0})).verdict
    seen = stub.requests[0]
    sent = json.loads(seen.body)

    assert seen.headers["authorization"] == "Bearer p"
    assert sent["model"] == "m"
    assert sent["temperature"] == 0
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert sent["messages"][1]["content"][0]["image_url"] == {
        "url": f"data:image/jpeg;base64,{b64encode(CONTENT).decode()}",
        "detail": "low",
    }
    assert (verdict.score, verdict.is_anomaly, verdict.label, verdict.reason) == (0.9, True, "crack", "A crack.")
    assert (verdict.detector, verdict.usage) == ("m-2026@unversioned", usage)


def openai(message: Any, ended_by: str = "stop") -> Any:
    return {"choices": [{"message": message, "finish_reason": ended_by}]}


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (openai({"content": None, "refusal": "I cannot."}), DetectorRefused),
        (openai({"content": ""}, "content_filter"), DetectorRefused),
        (openai({"content": '{"is_an'}, "length"), DetectorAnswerInvalid),
        (openai({"content": "It looks fine."}), DetectorAnswerInvalid),
        (openai({"content": "[1]"}), DetectorAnswerInvalid),
        (openai({"content": None}), DetectorAnswerInvalid),
        (openai({"content": "{}"}), DetectorAnswerInvalid),
        ({"choices": []}, DetectorAnswerInvalid),
        ([], DetectorAnswerInvalid),
    ],
)
def test_openai_answers_that_are_no_verdict(stub: HttpStub, made: Made, document: Any, error: type[Exception]) -> None:
    stub.at("/chat/completions", a_json(document))
    with pytest.raises(error):
        ask(made(dialect="openai_chat", model="m"))


def test_anthropic_is_asked_through_a_tool_and_read(stub: HttpStub, made: Made) -> None:
    usage = {"input_tokens": 5, "output_tokens": 7}
    block = {"type": "tool_use", "name": "report", "input": OPENAI_REPORT}
    stub.at(
        "/v1/messages",
        a_json({"model": "c-1", "content": [{"type": "text", "text": "."}, block], "stop_reason": "tool_use", "usage": usage}),
    )
    verdict = ask(made(dialect="anthropic_messages", model="c", key="p", prompt="Look.", threshold=0.95)).verdict
    seen = stub.requests[0]
    sent = json.loads(seen.body)

    assert (seen.headers["x-api-key"], seen.headers["anthropic-version"]) == ("p", "2023-06-01")
    assert sent["system"] == "Look."
    assert sent["tool_choice"] == {"type": "tool", "name": sent["tools"][0]["name"]}
    assert b64decode(sent["messages"][0]["content"][0]["source"]["data"]) == CONTENT
    assert (verdict.score, verdict.is_anomaly, verdict.usage, verdict.detector) == (0.9, False, usage, "c-1@unversioned")


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"content": [], "stop_reason": "refusal"}, DetectorRefused),
        ({"content": [], "stop_reason": "max_tokens"}, DetectorAnswerInvalid),
        ({"content": [{"type": "text", "text": "fine"}], "stop_reason": "end_turn"}, DetectorAnswerInvalid),
        ({}, DetectorAnswerInvalid),
    ],
)
def test_anthropic_answers_that_are_no_verdict(stub: HttpStub, made: Made, document: Any, error: type[Exception]) -> None:
    stub.at("/v1/messages", a_json(document))
    with pytest.raises(error):
        ask(made(dialect="anthropic_messages", model="c"))


# --- connections


BASE: dict[str, Any] = {"dialect": "generic", "answer": {"score": "s"}, "threshold": 1}
MAPPINGS: list[dict[str, Any]] = [{"answer": {"score": "t"}}, {"threshold": 2}, {"scale": 2}, {"offset": 2}]


def test_the_mapping_is_no_part_of_the_configuration_so_that_an_archived_answer_is_read_anew(made: Made) -> None:
    detectors = [made(**{**BASE, **change}) for change in [{}, *MAPPINGS]]
    assert len({each.config for each in detectors}) == 1
    assert len({each.reading for each in detectors}) == len(detectors)
    raw = b'{"s": 0.75, "t": 3}'
    assert [(each.read(raw).score, each.read(raw).is_anomaly) for each in detectors] == [
        (0.75, False), (3, True), (0.75, False), (1.5, True), (2.75, True),
    ]  # fmt: skip


def test_the_threshold_of_a_model_is_no_part_of_its_configuration(made: Made) -> None:
    low, high = (made(dialect="openai_chat", model="m", threshold=threshold) for threshold in (0.2, 0.8))
    assert low.config == high.config
    assert low.reading != high.reading


def test_the_configuration_changes_with_each_option_that_shapes_an_answer(made: Made) -> None:
    base = BASE
    changes: list[dict[str, Any]] = [{"path": "/x"}, {"format": "json"}, {"base": "/v2"}, {"dialect": "reference"}]
    configs = [made(**{**base, **change}).config for change in [{}, *changes]]

    assert len(set(configs)) == len(configs)
    assert made(**base, key="p", login="l").config == made(**base, key="q", headers={"X-Key": "k"}).config == configs[0]


@pytest.mark.parametrize(
    "dialect", [{"dialect": "generic"}, {"dialect": "openai_chat", "model": "m"}, {"dialect": "anthropic_messages", "model": "m"}]
)
def test_two_detectors_on_one_host_that_differ_in_a_header_share_no_answer(made: Made, dialect: dict[str, str]) -> None:
    def config(**headers: str) -> str:
        return made(**dialect, headers=headers).config

    assert len({config(), config(**{"X-Model": "a"}), config(**{"X-Model": "b"}), config(**{"X-Model": "a", "X-Site": "1"})}) == 4
    assert config(**{"X-Model": "a", "X-Api-Key": "k"}) == config(**{"x-model": "a", "Authorization": "Bearer other"})


def test_a_models_configuration_has_its_model_and_prompt(made: Made) -> None:
    extras: list[dict[str, Any]] = [{"model": "a"}, {"model": "b"}, {"model": "a", "prompt": "p"}, {"model": "a", "max_tokens": 9}]

    assert len({made(dialect="openai_chat", **extra).config for extra in extras}) == 4


@pytest.mark.parametrize(
    ("connection", "header"),
    [
        ({}, ("authorization", "Bearer p")),
        ({"login": "l"}, ("authorization", "Basic bDpw")),
        ({"key_header": "X-Api-Key"}, ("x-api-key", "p")),
        ({"headers": {"X-More": "1"}}, ("x-more", "1")),
    ],
)
def test_credentials_are_sent(stub: HttpStub, made: Made, connection: Any, header: tuple[str, str]) -> None:
    stub.at("/v1/detect", a_json(REFERENCE))
    ask(made(key="p", **connection))

    assert header in stub.requests[0].headers.items()


def test_credentials_are_not_written_down(stub: HttpStub, made: Made, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = "SECRET"
    detector = made(key=key, path="/x?key=SECRET", headers={"X-Key": key})
    stub.at("/x", a_json({"error": {"message": f"key {'S' * 40} is wrong"}}, status=400), Reply(reset=True))
    said = ""
    for _ in range(2):
        with pytest.raises((DetectorRefused, DetectorFailed)) as caught:
            ask(detector)
        said += str(caught.value)

    assert "is wrong" in said
    assert "S" * 40 not in said
    assert "SECRET" not in said + caplog.text + repr(detector) + repr(DetectorConnection(base_url="", password=key, extra={"k": key}))


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"dialect": "klingon"}, "dialect"),
        ({"dialect": "openai_chat"}, "model"),
        ({"treshold": 1}, "treshold"),
        ({"threshold": "1"}, "threshold"),
        ({"threshold": True}, "threshold"),
        ({"scale": float("nan")}, "scale"),
        ({"format": "xml"}, "format"),
        ({"path": 1}, "path"),
        ({"answer": []}, "answer"),
        ({"answer": {"score": 1}}, "answer"),
        ({"answer": {"score": "]["}}, "score"),
        ({"answer": {"sc0re": "s"}}, "sc0re"),
        ({"answer": {"label": "l"}}, "answer"),
        ({"format": "json", "body": {"image": "{image}"}}, "body"),
        ({"headers": {"X": 1}}, "headers"),
        ({"headers": {"X": "a\r\nY: b"}}, "headers"),
    ],
)
def test_a_wrong_extra_is_named(made: Made, extra: dict[str, Any], named: str) -> None:
    with pytest.raises(Misconfigured, match=named):
        made(**extra)


@pytest.mark.parametrize("base_url", ["", "detector", "ftp://detector", "http://", "http://u:p@detector"])
def test_a_wrong_address_is_named(base_url: str) -> None:
    with detectors.session(Settings(), base_url) as session, pytest.raises(Misconfigured, match="address"):
        detectors.from_connection(DetectorConnection(base_url=base_url), session, Settings())


EXAMPLES = re.findall(r"```json\n(.*?)```", (Path(__file__).parents[3] / "docs" / "detectors.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_of_the_documentation_is_a_detector(example: str) -> None:
    connection = json.loads(example)
    spec = DetectorConnection(base_url=connection["host"], password=connection.get("password"), extra=connection["extra"])
    with detectors.session(Settings(), spec.base_url) as session:
        assert detectors.from_connection(spec, session, Settings()).config
