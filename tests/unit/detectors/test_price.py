"""Tests of the price in a detector's connection."""

from __future__ import annotations

import re
from typing import Any

import pytest

from anomaly import detectors
from anomaly.errors import Misconfigured
from anomaly.settings import Settings

EXTRAS: dict[str, dict[str, Any]] = {
    "reference": {},
    "generic": {},
    "openai_chat": {"model": "m"},
    "anthropic_messages": {"model": "m"},
}


def a_detector(dialect: str, **extra: Any) -> detectors.Detector:
    connection = detectors.DetectorConnection(base_url="http://detector", extra={"dialect": dialect, **EXTRAS[dialect], **extra})
    with detectors.session(Settings(), connection.base_url) as session:
        return detectors.from_connection(connection, session, Settings())


@pytest.mark.parametrize("dialect", detectors.DIALECTS)
def test_every_dialect_may_state_a_price_which_makes_no_other_configuration(dialect: str) -> None:
    with_price, without = a_detector(dialect, price=0.002), a_detector(dialect)
    assert (with_price.price, without.price) == (0.002, None)
    assert with_price.config == without.config


@pytest.mark.parametrize(("price", "sentence"), [(-1, "'price' must not be negative"), ("free", "'price' must be a number")])
def test_a_price_that_is_none_is_refused(price: Any, sentence: str) -> None:
    with pytest.raises(Misconfigured, match=re.escape(sentence)):
        a_detector("generic", price=price)
