"""The configuration of a source: each mistake is one sentence that names it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from anomaly.errors import Misconfigured
from anomaly.models.source import configured, sources_of

GIVEN = {"table": "shop.photos", "id": "photo_id", "image_url": "url", "captured_at": "taken_at"}


def test_a_source_needs_four_keys_and_has_defaults_for_the_others() -> None:
    [source] = sources_of(GIVEN, "x")
    assert (source.name, source.table, source.id) == ("shop.photos", ("shop", "photos"), ("photo_id",))
    assert (source.look_back, source.on_change, source.write_back) == (timedelta(days=1), "again", {})


def test_the_setting_replaces_the_extra_and_either_may_be_absent() -> None:
    assert configured({}, "") == ()
    assert [each.name for each in configured({"source": GIVEN}, "")] == ["shop.photos"]
    assert [each.name for each in configured({"source": json.dumps(GIVEN)}, " ")] == ["shop.photos"]
    assert [each.name for each in configured({"source": GIVEN}, json.dumps([GIVEN | {"name": "a"}, GIVEN | {"name": "b"}]))] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"tabel": "x"}, "there is no key 'tabel'; did you mean 'table'?"),
        ({"captured_at": None}, '"captured_at" is missing; a source needs table, id, image_url, captured_at'),
        ({"id": []}, '"id" is missing; a source needs table, id, image_url, captured_at'),
        ({"table": "photos"}, '"table" must be a schema and a name, such as "shop.photos" or ["shop", "photos.2026"]'),
        ({"table": ["a", "b", "c"]}, '"table" must be a schema and a name, such as "shop.photos" or ["shop", "photos.2026"]'),
        ({"table": [1, "b"]}, '"table" must be a name, not 1'),
        ({"id": ["a", "a"]}, '"id" names a column twice'),
        ({"image_url": 7}, '"image_url" must be a name, not 7'),
        ({"image_url": "x" * 64}, f"\"image_url\": '{'x' * 64}' is longer than the 63 bytes of a name in Postgres"),
        ({"image_url": "ü" * 32}, f"\"image_url\": '{'ü' * 32}' is longer than the 63 bytes of a name in Postgres"),
        ({"captured_at": "a\0"}, '"captured_at" must be a name, not "a\\u0000"'),
        ({"condition": "  "}, '"condition" must be a text that is not empty, not "  "'),
        ({"name": 3}, '"name" must be a text that is not empty, not 3'),
        ({"look_back": 7}, '"look_back" must be a number with a unit, such as "90min", "36h" or "7d", not 7'),
        ({"look_back": "1 week"}, '"look_back" must be a number with a unit, such as "90min", "36h" or "7d", not "1 week"'),
        ({"on_change": "never"}, '"on_change" must be "again" or "leave", not "never"'),
        ({"write_back": []}, '"write_back" must be an object, such as {"is_anomaly": "a column"}'),
        ({"write_back": {"is_anomalous": "x"}}, "\"write_back\" has no value 'is_anomalous'; did you mean 'is_anomaly'?"),
        ({"write_back": {"score": "url"}}, "\"write_back\" would overwrite 'url', from which records are read"),
        ({"write_back": {"score": "x", "label": "x"}}, '"write_back" names a column twice'),
        (
            {"write_back": {"score": "x"}, "connection": "anomaly_source"},
            '"write_back" needs a source in the database of anomaly_db: it is part of the transaction of a verdict',
        ),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        sources_of(GIVEN | change, "ANOMALY_SOURCE")
    assert str(refused.value) == f"ANOMALY_SOURCE: {fault}"


@pytest.mark.parametrize("given", [3, "shop.photos", [None], [GIVEN, 3]])
def test_a_source_that_is_no_object_is_refused(given: object) -> None:
    with pytest.raises(Misconfigured, match="a source must be a JSON object, or a list of them"):
        sources_of(given, "x")


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(Misconfigured, match=r"two sources have the name 'shop\.photos'"):
        sources_of([GIVEN, GIVEN], "x")


@pytest.mark.parametrize(("extra", "setting"), [({}, "{"), ({"source": "{"}, "")])
def test_a_source_that_is_not_json_is_refused(extra: dict[str, Any], setting: str) -> None:
    with pytest.raises(Misconfigured, match="must be JSON"):
        configured(extra, setting)
