from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import example
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from anomaly.backoff import delay_s, exhausted_for_s, parse_wait_s, retry_after_s, wait_hint_s
from tests.parts.fuzzing import fuzz

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


class Least(Random):
    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002  # the signature is the base class's
        return a


class Most(Random):
    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002  # the signature is the base class's
        return b


def test_the_delay_doubles_up_to_its_cap() -> None:
    assert [delay_s(failures, base_s=1, cap_s=5, rng=Least()) for failures in (1, 2, 3, 4)] == [1, 2, 4, 5]


def test_jitter_adds_at_most_a_tenth_and_never_goes_under_the_servers_hint() -> None:
    assert delay_s(1, base_s=1, cap_s=60, rng=Least(), hint_s=20) == 20
    assert delay_s(1, base_s=1, cap_s=60, rng=Most(), hint_s=20) == pytest.approx(22)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0.25", 0.25),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("2023-11-14T22:13:50Z", 30.0),
        ("2023-11-15T00:13:50+02:00", 30.0),
        ("12ms", 0.012),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("999999999", 999_999_999.0),
        ("1700000034", 34.0),
        ("1700000034.5", 34.5),
        ("1700000034000", 34.0),
        ("1700000034000000", 34.0),
        ("1700000034000000000", 34.0),
        ("120, 60", 120.0),
        ('"30"', 30.0),
        ("PT1M30S", 90.0),
        ("30 seconds", 30.0),
        ("1 minute", 60.0),
        ("30sec", 30.0),
        ("1D", 86_400.0),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30.0),
        ("Tue Nov 14 22:13:50 2023", 30.0),
    ],
)
def test_each_form_of_a_wait_is_read(text: str, seconds: float) -> None:
    assert parse_wait_s(text, now=lambda: NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "soon",
        "Tue, 14 Nov 2023 22:13:00 GMT",
        "2023-11-14T22:13:00Z",
        "0s",
        "9" * 400,
        "1e9",
        "٣",
        "1600000000",
        "1600000000000",
        "inf",
        "nan",
        "1m30",
        "P1M",
        "00:00:30",
        "Wed, 31 Feb 2024 00:00:00 GMT",
    ],
)
def test_what_is_past_zero_or_unreadable_asks_for_no_wait(text: str) -> None:
    assert parse_wait_s(text, now=lambda: NOW) is None


@fuzz(st.text())
def test_no_text_of_a_server_breaks_the_reading(text: str) -> None:
    assert (parse_wait_s(text, now=lambda: NOW) or 1) > 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3", "X-RateLimit-Reset-Tokens": "6m0s"}, 3.0),
        ({"Retry-After-Ms": "1500", "Retry-After": "3"}, 1.5),
        ({"X-RateLimit-Reset-Requests": "12ms", "X-RateLimit-Reset-Tokens": "6m0s"}, 360.0),
        ({"Anthropic-RateLimit-Requests-Reset": "2023-11-14T22:13:50Z"}, 30.0),
        ({"Retry-After": "-1", "X-RateLimit-Reset-Tokens": "2s"}, 2.0),
        ({"X-RateLimit-Remaining-Tokens": "5"}, None),
        ({"X-Ms-Retry-After-Ms": "2500"}, 2.5),
        ({"X-RateLimit-Reset": "1700000030"}, 30.0),
        ({"X-RateLimit-Reset": "1700000030000"}, 30.0),
        ({"RateLimit-Reset": "30"}, 30.0),
        ({"RateLimit": '"default";r=0;t=30'}, 30.0),
        ({"RateLimit": '"minute";r=0;t=30, "day";r=900;t=40000'}, 30.0),
        ({"RateLimit": '"minute";r=3;t=30, "day";r=0;t=40000'}, 40000.0),
        ({"RateLimit": "default;r=0;t=7"}, 7.0),
        ({"RateLimit": '"default";r=0', "RateLimit-Policy": '"default";q=100;w=60'}, 60.0),
        ({"RateLimit": "limit=100, remaining=0, reset=30"}, 30.0),
        ({"RateLimit": "limit=100, remaining=5, reset=12.5"}, 12.5),
        ({"RateLimit": "limit=100,remaining=0,reset=30", "Retry-After": "3"}, 3.0),
        ({"RateLimit-Policy": '"default";q=100;w=60'}, None),
        ({"RateLimit": '"default";r=0;t=-5'}, None),
        ({"RateLimit": "((((("}, None),
        ({"X-Rate-Limit-Reset": "1700000030"}, 30.0),
        ({"X-RateLimit-Reset-After": "1.5"}, 1.5),
        ({"X-RateLimit-Reset-Ms": "500"}, 0.5),
        ({"X-RateLimit-Retry-After": "17"}, 17.0),
        ({"RateLimit": "limit=100;remaining=0;reset=50"}, 50.0),
        ({"RateLimit": '"default";r=0;t="30"'}, 30.0),
        ({"Retry-After": "120, 60"}, 120.0),
        ({}, None),
    ],
)
def test_retry_after_counts_before_resets_and_of_resets_the_latest(headers: dict[str, str], seconds: float | None) -> None:
    caseless: Any = CaseInsensitiveDict(headers)
    assert wait_hint_s(caseless, now=lambda: NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X-RateLimit-Remaining-Tokens": "0", "X-RateLimit-Reset-Tokens": "6m0s"}, 360.0),
        ({"X-RateLimit-Remaining-Tokens": "1", "X-RateLimit-Reset-Tokens": "6m0s"}, 0.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1700000030000"}, 30.0),
        ({"RateLimit": '"default";r=0;t=30'}, 30.0),
        ({"RateLimit": '"default";r=1;t=30'}, 0.0),
        ({"RateLimit": '"default";r=-1;t=30'}, 30.0),
        ({"X-Rate-Limit-Remaining": "0", "X-Rate-Limit-Reset": "1700000030"}, 30.0),
        ({"X-RateLimit-Remaining": "-3", "X-RateLimit-Reset": "30"}, 30.0),
        ({"X-RateLimit-Remaining": "0.0", "X-RateLimit-Reset": "30"}, 30.0),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.5"}, 1.5),
        ({"X-RateLimit-Remaining": "nan", "X-RateLimit-Reset": "30"}, 0.0),
        ({"RateLimit": '"a";r=0;t=30, "b";r=0;t=45'}, 45.0),
        ({"RateLimit": '"a";r=0', "RateLimit-Policy": '"a";q=10;w=60'}, 60.0),
        ({"RateLimit": "limit=100, remaining=0, reset=30"}, 30.0),
        ({"RateLimit": "limit=100, remaining=2, reset=30"}, 0.0),
        ({}, 0.0),
    ],
)
def test_only_exhausted_limits_ask_for_a_pause_after_an_answer(headers: dict[str, str], seconds: float) -> None:
    caseless: Any = CaseInsensitiveDict(headers)
    assert exhausted_for_s(caseless, now=lambda: NOW) == pytest.approx(seconds)


NAMES = ["Retry-After", "Retry-After-Ms", "RateLimit", "RateLimit-Policy", "X-RateLimit-Reset", "X-RateLimit-Remaining", "Date"]
PIECES = st.sampled_from(
    ['"default"', ";", ",", "=", "r", "t", "w", "0", "30", "-1", "1e400", "9" * 15, "9" * 16, "reset=", "remaining=0", "("]
)
VALUES = st.one_of(st.text(), st.lists(PIECES).map("".join), st.floats().map(str), st.integers().map(str), st.datetimes().map(str))


@fuzz(st.dictionaries(st.sampled_from(NAMES), VALUES))
@example({"RateLimit": '"default";r=0;t=' + "9" * 15})
@example({"RateLimit": "(" * 5000})
@example({"RateLimit": "a=(1 2), reset=(3 4)"})
@example({"RateLimit": "(1 2);r=0;t=30"})
@example({"RateLimit": '"\ud800";r=0;t=30'})
@example({"Retry-After": "9" * 19})
@example({"Date": "Mon, 01 Jan 0001 00:00:00 +2359", "Retry-After": "30"})
@example({"Date": "Mon, 01 Jan 0001 00:00:00 +2359", "Retry-After": "0001-01-01T00:00:00+23:59"})
def test_no_headers_of_a_server_break_the_reading(headers: dict[str, str]) -> None:
    caseless: Any = CaseInsensitiveDict(headers)
    for wait_s in (retry_after_s(caseless), wait_hint_s(caseless), exhausted_for_s(caseless) or None):
        assert wait_s is None or 0 < wait_s < float("inf")


@pytest.mark.parametrize("wrong_by_s", [-6 * 3600, 6 * 3600])
@pytest.mark.parametrize("name", ["Retry-After", "X-RateLimit-Reset"])
def test_a_time_is_read_by_the_clock_of_the_server_that_said_it(name: str, wrong_by_s: float) -> None:
    caseless: Any = CaseInsensitiveDict({"Date": "Tue, 14 Nov 2023 22:13:20 GMT", name: "Tue, 14 Nov 2023 22:13:50 GMT"})
    assert wait_hint_s(caseless, now=lambda: NOW + wrong_by_s) == pytest.approx(30)
