"""No verdict comes from a field that is not there, and none is lost over a field that it does not need."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.errors import DetectorAnswerInvalid, Misconfigured
from anomaly.models.quota import tokens_of
from tests.contract.detectors.conftest import IMAGE, a_json
from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from anomaly.models.answers import Verdict
    from tests.contract.detectors.conftest import Made
    from tests.parts.http_stub import HttpStub

WITHOUT: list[Any] = [
    {"detail": "Model is being loaded"},
    {},
    [],
    "queued",
    None,
    7,
    True,
    {"score": None},
    {"Score": 0.9},
    {"result": {"score": 0.9}},
    [[]],
]
SCORE_AND_COMPARISON = {"score": "score", "is_anomaly": "score > `0.5`"}
COMPARISONS = [
    "label == 'bad'",
    "label != 'good'",
    "!label",
    "score > `0.5`",
    "score <= `0.5`",
    "label == 'bad' || defect",
    "boxes[?s > `1`] != `[]`",
]


def read(made: Made, document: Any, **extra: Any) -> Verdict:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return made(**{"dialect": "generic", **extra}).read(raw)


# ── what is missing


@pytest.mark.parametrize("document", WITHOUT, ids=json.dumps)
def test_an_answer_without_the_mapped_score_is_invalid_whatever_a_comparison_makes_of_it(made: Made, document: Any) -> None:
    extras: list[dict[str, Any]] = [
        {},
        {"answer": SCORE_AND_COMPARISON},
        {"answer": SCORE_AND_COMPARISON, "threshold": 0.5},
        {"answer": {"score": "score || `0`"}, "threshold": 1},
    ]
    for extra in extras:
        with pytest.raises(DetectorAnswerInvalid, match="'score'"):
            read(made, document, **extra)


MISSING_IN_ITEMS: list[tuple[str, Any]] = [
    ("sum(regions[].score)", {"regions": [{}]}),
    ("sum(regions[].score)", {"regions": [None]}),
    ("sum(regions[*].score)", {"regions": [{"score": None}]}),
    ("max(objs[?class=='crack'].conf) || `0`", {"objs": [{"klass": "crack", "conf": 0.9}]}),
    ("max(objs[?class=='crack'].conf) || `0`", {"objs": [{"class": "crack"}]}),
    ("max(objs[?class=='crack'].conf) || `0`", {"objs": ["crack"]}),
    ("length(objs[?class=='crack'])", {"objs": [{"label": "crack"}]}),
    ("length(objs[?a.b > `0`].c)", {"objs": [{"a": {}}, {}]}),
    ("sum(a[].b[].c)", {"a": [{"b": [{}]}]}),
    ("sum(scores.*.p)", {"scores": {"crack": {}, "ok": {}}}),
    ("length(@)", {}),
    ("length(@)", []),
]
EMPTY_IN_ITEMS: list[tuple[str, Any, float]] = [
    ("sum(regions[].score)", {"regions": []}, 0.0),
    ("sum(regions[].score)", {"regions": [{"score": 0.25}, {}]}, 0.25),
    ("max(objs[?class=='crack'].conf) || `0`", {"objs": []}, 0.0),
    ("max(objs[?class=='crack'].conf) || `0`", {"objs": [{"class": "ok"}]}, 0.0),
    ("length(objs[?class=='crack'])", {"objs": [{"class": "ok"}, {"class": "crack"}]}, 1.0),
    ("sum(a[].b[].c)", {"a": [{"b": []}]}, 0.0),
    ("max(scores.*.p)", {"scores": {"crack": {"p": 0.5}, "ok": {}}}, 0.5),
    ("length(@)", [{"class": "crack"}], 1.0),
]


@pytest.mark.parametrize(("expression", "document"), MISSING_IN_ITEMS, ids=str)
def test_a_field_that_no_item_of_a_list_has_is_missing(made: Made, expression: str, document: Any) -> None:
    with pytest.raises(DetectorAnswerInvalid, match="'score'"):
        read(made, document, answer={"score": expression}, threshold=0.5)
    with pytest.raises(DetectorAnswerInvalid, match="'is_anomaly'"):
        read(made, document, answer={"is_anomaly": f"{expression} > `0`"})


@pytest.mark.parametrize(("expression", "document", "score"), EMPTY_IN_ITEMS, ids=str)
def test_a_list_without_a_match_is_an_answer(made: Made, expression: str, document: Any, score: float) -> None:
    assert read(made, document, answer={"score": expression}, threshold=0.5).score == score


def test_an_empty_list_in_place_of_an_object_is_no_verdict(made: Made) -> None:
    documents: list[Any] = [{"result": []}, {"result": [None]}, [{"label": "bad"}]]
    for document in documents:
        with pytest.raises(DetectorAnswerInvalid, match="'is_anomaly'"):
            read(made, document, answer={"is_anomaly": "result.label != 'ok'"})


@pytest.mark.parametrize("expression", COMPARISONS)
def test_a_comparison_of_fields_that_are_not_there_is_no_verdict(made: Made, expression: str) -> None:
    documents: list[Any] = [{"detail": "Model is being loaded"}, {}, [], "queued", {"label": None}, {"error": {"label": "bad"}}]
    for document in documents:
        with pytest.raises(DetectorAnswerInvalid, match="'is_anomaly'"):
            read(made, document, answer={"is_anomaly": expression})


@pytest.mark.parametrize(
    ("expression", "document", "is_anomaly"),
    [
        ("label == 'bad'", {"label": "good"}, False),
        ("label == 'bad' || grade == 'C'", {"grade": "C"}, True),
        ("defects[0].name != `null`", {"defects": []}, False),
        ("length(defects) > `0`", {"defects": []}, False),
        ("defects[?size > `2`] != `[]`", {"defects": [{"size": 3}]}, True),
        ("result.class == 'crack'", {"result": {"class": "none"}}, False),
        ("result | class == 'crack'", {"result": {"class": "crack"}}, True),
        ("[0].label == 'bad'", [{"label": "bad"}], True),
        ("@ == 'bad'", "good", False),
    ],
)
def test_a_comparison_of_a_field_that_is_there_is_a_verdict(made: Made, expression: str, document: Any, *, is_anomaly: bool) -> None:
    assert read(made, document, answer={"is_anomaly": expression}).is_anomaly is is_anomaly


def test_a_comparison_without_its_field_leaves_the_verdict_to_the_thresholds(made: Made) -> None:
    answer = {"score": "s", "threshold": "t", "is_anomaly": "label == 'bad'"}
    assert read(made, {"s": 5, "t": 4}, answer=answer).is_anomaly is True
    assert read(made, {"s": 5, "t": 4, "label": "good"}, answer=answer).is_anomaly is False


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e999", "true", '"0.93"', '""', "[]", "{}", "1" + "0" * 400, "1" + "0" * 5000]
)
def test_a_score_that_is_not_a_finite_number_is_invalid(made: Made, value: str) -> None:
    raw = f'{{"score": {value}, "is_anomaly": false}}'.encode()
    for extra in ({}, {"threshold": 0.5}):
        with pytest.raises(DetectorAnswerInvalid, match=r"'score' is read by 'score', which found .*; expected a finite number"):
            read(made, raw, **extra)


def test_a_number_in_a_string_is_read_where_the_mapping_says_so(made: Made) -> None:
    assert read(made, {"score": "0.93"}, answer={"score": "to_number(score)"}, threshold=0.5).score == 0.93


@pytest.mark.parametrize(("score", "valid"), [(0, True), (1, True), (1.0000000001, True), (1.1, False), (-0.5, False), (95, False)])
def test_a_score_outside_the_declared_range_is_invalid(made: Made, score: float, *, valid: bool) -> None:
    extra: dict[str, Any] = {"range": [0, 1], "threshold": 0.5}
    if valid:
        assert read(made, {"score": score}, **extra).score == score
        return
    with pytest.raises(DetectorAnswerInvalid, match="expected a score from 0 to 1"):
        read(made, {"score": score}, **extra)


def test_a_range_applies_after_scale_and_offset_and_does_not_shape_answers(made: Made) -> None:
    extra: dict[str, Any] = {"dialect": "generic", "threshold": 0.5, "scale": 0.01}
    assert read(made, {"score": 93}, **extra, range=[0, 1]).score == 0.93
    assert made(**extra, range=[0, 1]).config == made(**extra).config


@pytest.mark.parametrize("interval", [[1], [0, 1, 2], [1, 0], ["0", "1"], [0, True], 1, {"min": 0}, [0, float("inf")]])
def test_a_wrong_range_is_named(made: Made, interval: Any) -> None:
    with pytest.raises(Misconfigured, match="'range' must be two numbers"):
        made(dialect="generic", range=interval)


@pytest.mark.parametrize("score", [1.5, -0.1, 95])
def test_models_answer_from_0_to_1(made: Made, score: float) -> None:
    report: dict[str, Any] = {"is_anomaly": True, "score": score, "label": None, "reason": "", "regions": []}
    openai = {"choices": [{"message": {"content": json.dumps(report)}, "finish_reason": "stop"}]}
    anthropic = {"content": [{"type": "tool_use", "input": report}], "stop_reason": "tool_use"}
    for dialect, answer in (("openai_chat", openai), ("anthropic_messages", anthropic)):
        with pytest.raises(DetectorAnswerInvalid, match="expected a score from 0 to 1"):
            read(made, answer, dialect=dialect, model="m")
        assert read(made, answer, dialect=dialect, model="m", range=[-100, 100]).score == score


# ── what no verdict needs

ALL = {name: name for name in ("score", "label", "reason", "regions", "heatmap", "model", "version", "usage", "cost", "threshold")}
DEEP = "[" * 100_000 + "]" * 100_000
DEEP_OBJECT = '[{"a":' * 20_000 + "1" + "}]" * 20_000
OPTIONAL = [
    ("usage", '{"total_tokens": 1' + "0" * 400 + "}"),
    ("usage", '{"total_tokens": 1' + "0" * 5000 + "}"),
    ("usage", '{"total_tokens": 1e999}'),
    ("usage", "[]"),
    ("usage", '"many"'),
    ("regions", "{}"),
    ("regions", "[1]"),
    ("regions", '[{"x": 1e999}]'),
    ("regions", '[{"x": NaN}]'),
    ("regions", DEEP),
    ("regions", DEEP_OBJECT),
    ("regions", '[{"a": ' + "[" * 200 + "]" * 200 + "}]"),
    ("cost", '"0.01"'),
    ("cost", "1e999"),
    ("cost", "true"),
    ("label", "{}"),
    ("label", '["crack"]'),
    ("reason", "[1]"),
    ("model", "{}"),
    ("version", "[]"),
    ("threshold", '"0.5"'),
    ("threshold", "NaN"),
    ("heatmap", '"?"'),
    ("heatmap", "7"),
    ("heatmap", json.dumps(b64encode(b"GIF89a").decode())),
    ("heatmap", '""'),
]


@pytest.mark.parametrize(("name", "value"), OPTIONAL, ids=lambda text: text[:30])
def test_an_optional_field_that_does_not_fit_is_dropped_with_one_warning_and_the_verdict_is_kept(
    made: Made, caplog: pytest.LogCaptureFixture, name: str, value: str
) -> None:
    detector = made(dialect="generic", answer=ALL | {"is_anomaly": "is_anomaly"}, model="m")
    raw = f'{{"score": 0.7, "is_anomaly": true, "{name}": {value}}}'.encode()
    verdicts = [detector.read(raw) for _ in range(20)]
    bare = detector.read(b'{"score": 0.7, "is_anomaly": true}')

    assert set(map(repr, verdicts)) == {repr(bare)}
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{name} of an answer dropped, verdict kept: ")


def test_an_expression_that_cannot_be_computed_costs_its_own_field_only(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    answer = {"score": "score", "label": "join(', ', boxes[].name)", "cost": "sum(prices)", "reason": "why"}
    verdict = read(made, {"score": 0.7, "prices": "a secret of theirs", "why": "a crack"}, answer=answer, threshold=0.5)

    assert (verdict.score, verdict.label, verdict.cost, verdict.reason) == (0.7, None, None, "a crack")
    assert "a secret of theirs" not in caplog.text
    with pytest.raises(DetectorAnswerInvalid, match="'is_anomaly'"):
        read(made, {"boxes": 1}, answer={"is_anomaly": "length(boxes) > `1`"})


def test_what_the_database_cannot_store_is_replaced_in_every_text(made: Made) -> None:
    odd = '"a\\u0000b\\ud800c"'
    texts = ", ".join(f'"{name}": {odd}' for name in ("label", "reason", "model", "version"))
    raw = f'{{"score": 0.7, {texts}, "regions": [{{{odd}: {odd}}}], "usage": {{{odd}: {odd}}}}}'
    verdict = read(made, raw.encode(), answer=ALL, threshold=0.5)

    assert (verdict.label, verdict.reason, verdict.detector) == ("ab?c", "ab?c", "ab?c@ab?c")
    assert (verdict.regions, verdict.usage) == (({"ab?c": "ab?c"},), {"ab?c": "ab?c"})
    assert "\\u0000" not in json.dumps(verdict.regions)
    assert tokens_of(verdict.usage) is None


# ── what is kept of an unreadable answer


def unreadable(
    stub: HttpStub, made: Made, reply: Reply, *, key: str | None = None, settings: Any = None, **extra: Any
) -> DetectorAnswerInvalid:
    stub.at("/d", reply)
    with pytest.raises(DetectorAnswerInvalid) as caught:
        made(dialect="generic", path="/d", key=key, settings=settings, **extra).ask(IMAGE, idempotency_key="k")
    return caught.value


def test_the_error_of_an_unreadable_answer_names_expression_finding_and_expectation_and_quotes_it(stub: HttpStub, made: Made) -> None:
    error = unreadable(stub, made, a_json({"result": {"q": "high"}}), answer={"score": "result.p"}, threshold=0.5)

    assert str(error) == (
        """127.0.0.1/d: 'score' is read by 'result.p', which found null; expected a number; the answer begins: {"result": {"q": "high"}}"""
    )
    assert (error.raw, error.image_sha256) == (b'{"result": {"q": "high"}}', IMAGE.sha256)


@pytest.mark.parametrize(
    ("body", "begins"),
    [
        (b"<html>\r\n<b>busy</b>\x1b[31m\0\n</html>", r"<html> <b>busy</b>\x1b[31m\x00 </html>"),
        (b"\xff\xd8\xff\xe0 JFIF", "\ufffd\ufffd\ufffd\ufffd JFIF"),
        (b'{"image": "' + b"iVBORw0K" * 40 + b'"}', '{"image": "…"}'),
        (b'{"note": "\xed\xa0\x80"}', '{"note": "\ufffd\ufffd\ufffd"}'),
        (b"0.93 " * 400, "0.93 " * 23 + "0.93…"),
    ],
)
def test_the_quote_is_one_printable_line_of_at_most_120_characters(stub: HttpStub, made: Made, body: bytes, begins: str) -> None:
    error = unreadable(stub, made, Reply(body=body))

    assert str(error).partition("; the answer begins: ")[2] == begins
    assert len(begins) <= 120
    str(error).encode()


def test_an_unreadable_answer_is_kept_up_to_64_kib_without_what_was_sent_as_a_secret(stub: HttpStub, made: Made) -> None:
    error = unreadable(stub, made, Reply(body=b"Bearer hunter2x " * 10_000), key="hunter2x")

    assert len(error.raw) == 64 * 1024
    assert b"hunter2x" not in error.raw
    assert "hunter2x" not in str(error)


def test_the_beginning_of_an_answer_that_is_too_large_is_kept(stub: HttpStub, made: Made) -> None:
    error = unreadable(stub, made, Reply(body=b" " * 200_000), settings={"detector_answer_max_bytes": 1024})

    assert "more than 1024 bytes" in str(error)
    assert error.raw
