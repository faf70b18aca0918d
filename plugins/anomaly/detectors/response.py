"""Reads verdicts from parsed JSON answers, in a form that the database can store."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import jmespath

from anomaly.detectors import answer_fields as fields
from anomaly.detectors.base import FieldFinding
from anomaly.detectors.expressions import FAILURES, Expression
from anomaly.detectors.options import misconfigured
from anomaly.errors import DetectorAnswerInvalid
from anomaly.models.answers import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly.models.regions import RegionFormat

log = logging.getLogger(__name__)

_TOLERANCE = 1e-6
"""Share of a range by which rounding may take a score beyond it."""
_EXPRESSION_CHARS = 80


class AnswerMapping:
    """Reads a verdict from an answer: one JMESPath expression for each field, then scale, offset and threshold.

    A score that is mapped must be in the answer, as a finite number within *score_range*. A field that no verdict needs is dropped if it
    does not fit, with one warning for each field and not for each answer.
    """

    def __init__(
        self,
        expressions: Mapping[str, str],
        *,
        model: str,
        scale: float = 1.0,
        offset: float = 0.0,
        threshold: float | None = None,
        score_range: tuple[float, float] | None = None,
        region_format: RegionFormat | None = None,
    ) -> None:
        if unknown := next((name for name in expressions if name not in fields.FIELDS), None):
            raise misconfigured(f"there is no field {unknown!r} for the extra 'answer'; there are {', '.join(fields.FIELDS)}")
        self._expressions = {name: Expression(name, text) for name, text in expressions.items()}
        if "score" not in expressions and "is_anomaly" not in expressions:
            raise misconfigured("the extra 'answer' must map 'score' or 'is_anomaly'")
        self._search = jmespath.compile("{" + ", ".join(f"{name}: ({text})" for name, text in expressions.items()) + "}")
        self._model, self._threshold, self._range, self._region_format = model, threshold, score_range, region_format
        self._number = partial(fields.number, scale=scale, offset=offset)
        self._optional = {name: convert for name, (convert, _) in fields.FIELDS.items() if name not in {"score", "is_anomaly", "threshold"}}
        if threshold is None:
            self._optional["threshold"] = self._number
        self._dropped: set[str] = set()
        self.config: dict[str, Any] = {"answer": dict(expressions), "scale": scale, "offset": offset, "threshold": threshold}
        """The parameters that shape a verdict, for the digest of the reading. The range only rejects answers, and regions are
        converted whenever an answer is read."""

    def verdict(self, document: Any) -> Verdict:
        """Read a parsed answer.

        Raises:
            DetectorAnswerInvalid: the score or the verdict is missing or does not fit.
        """
        found = self._find(document)
        score = self._score(document, found)
        values, problems = fields.fitting(found, self._optional)
        for name, why in problems.items():
            if name not in self._dropped:
                self._dropped.add(name)
                log.warning("%s of an answer dropped, verdict kept: %s; no further warning about this field", name, why)
        threshold = values.get("threshold", self._threshold)
        is_anomaly = self._is_anomaly(document, found, score, threshold)
        return Verdict(
            score=score if score is not None else float(is_anomaly),
            is_anomaly=is_anomaly,
            threshold=threshold,
            label=values.get("label"),
            reason=values.get("reason"),
            regions=values.get("regions", ()),
            region_format=self._region_format,
            detector=f"{values.get('model') or self._model}@{values.get('version') or 'unversioned'}",
            usage=values.get("usage"),
            cost=values.get("cost"),
            heatmap=values.get("heatmap"),
        )

    def explain(self, document: Any) -> list[FieldFinding]:
        """Return what each expression finds in a parsed answer."""
        found = self._find(document)
        return [self._explained(expression, document, found.get(name)) for name, expression in self._expressions.items()]

    def _explained(self, expression: Expression, document: Any, value: Any) -> FieldFinding:
        name, problem = expression.field, ""
        convert, expected = fields.FIELDS[name]
        if name in {"score", "is_anomaly"} and not expression.has_source(document):
            value, problem = None, "it is not in the answer"
        elif value is not None:
            try:
                convert(value)
            except FAILURES as exc:
                problem = str(exc) if type(exc) is ValueError else "its expression cannot be computed"
        return FieldFinding(field=name, expression=expression.text, found=fields.described(value), expected=expected, problem=problem)

    def _find(self, document: Any) -> dict[str, Any]:
        """Return the value of each expression; in place of one that cannot be computed, the exception."""
        try:
            return self._search.search(document) or {}
        except FAILURES:  # one expression must not cost the others
            return {name: _value_or_failure(expression, document) for name, expression in self._expressions.items()}

    def _score(self, document: Any, found: dict[str, Any]) -> float | None:
        if "score" not in self._expressions:
            return None
        value = found.get("score")
        if value is None or not self._expressions["score"].has_source(document):
            raise self._unexpected("score", None, "a number")
        try:
            score = self._number(value)
        except ValueError:
            raise self._unexpected("score", value, "a finite number") from None
        if self._range:
            low, high = self._range
            if not low - _TOLERANCE * (high - low) <= score <= high + _TOLERANCE * (high - low):
                raise self._unexpected("score", value, f"a score from {low:g} to {high:g}")
        return score

    def _is_anomaly(self, document: Any, found: dict[str, Any], score: float | None, threshold: float | None) -> bool:
        """Decide by the connection's threshold, else by the answer, else by the answer's own threshold."""
        if score is not None and self._threshold is not None:
            return score >= self._threshold
        expression, answered = self._expressions.get("is_anomaly"), found.get("is_anomaly")
        if expression and not expression.has_source(document):
            answered = None
        if isinstance(answered, bool):
            return answered
        if answered is None and score is not None and threshold is not None:
            return score >= threshold
        if expression is None:
            raise DetectorAnswerInvalid("the answer has a score but no threshold, and the connection neither 'threshold' nor 'is_anomaly'")
        raise self._unexpected("is_anomaly", answered, "true or false")

    def _unexpected(self, name: str, value: Any, expected: str) -> DetectorAnswerInvalid:
        expression = self._expressions[name].text[:_EXPRESSION_CHARS]
        return DetectorAnswerInvalid(f"{name!r} is read by {expression!r}, which found {fields.described(value)}; expected {expected}")


def _value_or_failure(expression: Expression, document: Any) -> Any:
    try:
        return expression.search(document)
    except FAILURES as exc:
        return exc
