"""Reads verdicts from JSON answers, in a form that the database can store."""

from __future__ import annotations

import json
import logging
import math
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import jmespath
from jmespath.exceptions import JMESPathError

from anomaly.detectors.options import misconfigured
from anomaly.errors import DetectorAnswerInvalid
from anomaly.models.answers import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

FIELDS = ("score", "is_anomaly", "threshold", "label", "reason", "regions", "heatmap", "model", "version", "usage", "cost")
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXT_CHARS = 4000


def parse_json(raw: bytes) -> Any:
    """Parse JSON.

    Raises:
        DetectorAnswerInvalid: *raw* is not JSON.
    """
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise DetectorAnswerInvalid(f"the detector's answer of {len(raw)} bytes is not JSON ({type(exc).__name__})") from exc


class AnswerMapping:
    """Reads a verdict from an answer: one JMESPath expression for each field, then scale, offset and threshold."""

    def __init__(
        self, expressions: Mapping[str, str], *, model: str, scale: float = 1.0, offset: float = 0.0, threshold: float | None = None
    ) -> None:
        for name, expression in expressions.items():
            _check(name, expression)
        if "score" not in expressions and "is_anomaly" not in expressions:
            raise misconfigured("the extra 'answer' must map 'score' or 'is_anomaly'")
        self._search = jmespath.compile("{" + ", ".join(f"{name}: ({text})" for name, text in expressions.items()) + "}")
        self._model, self._scale, self._offset, self._threshold = model, scale, offset, threshold
        self.config = {"answer": dict(expressions), "scale": scale, "offset": offset, "threshold": threshold}
        """The parameters that shape a verdict, for the digest of the configuration."""

    def verdict(self, document: Any) -> Verdict:
        """Read a parsed answer.

        Raises:
            DetectorAnswerInvalid: a field is missing or of a wrong kind.
        """
        try:
            return self._verdict(self._search.search(document) or {})
        except (JMESPathError, ValueError, TypeError, RecursionError) as exc:
            raise DetectorAnswerInvalid(f"the detector's answer: {str(exc)[:200]}") from exc

    def _verdict(self, found: dict[str, Any]) -> Verdict:
        score = self._scaled(_number(found, "score"))
        threshold = self._threshold if self._threshold is not None else self._scaled(_number(found, "threshold"))
        is_anomaly = self._is_anomaly(found.get("is_anomaly"), score, threshold)
        return Verdict(
            score=score if score is not None else float(is_anomaly),
            is_anomaly=is_anomaly,
            threshold=threshold,
            label=_text(found.get("label")),
            reason=_text(found.get("reason")),
            regions=_regions(found.get("regions")),
            detector=f"{_text(found.get('model')) or self._model}@{_text(found.get('version')) or 'unversioned'}",
            usage=_object(found.get("usage")),
            cost=_number(found, "cost"),
            heatmap=_heatmap(found.get("heatmap")),
        )

    def _scaled(self, value: float | None) -> float | None:
        return None if value is None else _finite(value * self._scale + self._offset)

    def _is_anomaly(self, answered: Any, score: float | None, threshold: float | None) -> bool:
        """Decide by the connection's threshold, else by the answer, else by the answer's own threshold."""
        if isinstance(answered, bool) and (self._threshold is None or score is None):
            return answered
        if score is None or threshold is None or not (answered is None or isinstance(answered, bool)):
            raise ValueError("'is_anomaly' is not a boolean, and score or threshold is missing")
        return score >= threshold


def _check(name: str, expression: str) -> None:
    if name not in FIELDS:
        raise misconfigured(f"there is no field {name!r} for the extra 'answer'; there are {', '.join(FIELDS)}")
    try:
        jmespath.compile(expression)
    except JMESPathError as exc:
        raise misconfigured(f"the extra 'answer': {name!r} is not a JMESPath expression") from exc


def _number(found: dict[str, Any], name: str) -> float | None:
    value = found.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name!r} is not a number")
    return _finite(value)


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("a number is not finite")
    return number


def _regions(value: Any) -> tuple[dict[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(region, dict) for region in value):
        raise ValueError("'regions' is not a list of objects")
    return tuple(_storable(value))


def _object(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise ValueError("'usage' is not an object")
    return None if value is None else dict(_storable(value))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list):
        return None
    return str(_storable(str(value)))[:_TEXT_CHARS]


def _storable(value: Any) -> Any:
    """Return *value* as Postgres can store it in text and jsonb, without NUL and lone surrogates; reject numbers that are not finite."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return _finite(value) if isinstance(value, float) else value


def _heatmap(value: Any) -> bytes | None:
    """Return the heat map, or None without a valid one, which the record does not need."""
    if value is None:
        return None
    try:
        png = b64decode(value.rpartition(",")[2], validate=True)  # a data URL ends in base64
    except (ValueError, AttributeError):
        png = b""
    if not png.startswith(_PNG):
        log.warning("heat map dropped: it is not a PNG in base64")
        return None
    return png
