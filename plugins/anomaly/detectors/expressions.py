"""JMESPath expressions that distinguish a value in the answer from one that was made up for a missing field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from anomaly.detectors.options import misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILURES = (JMESPathError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Raised by a search in a document that the expression does not fit."""
_ROOTS = {"field", "current", "identity"}
_STEPS = {"subexpression", "index_expression", "projection", "filter_projection", "value_projection", "flatten"}


class Expression:
    """The JMESPath expression for one field of the answer.

    Raises:
        Misconfigured: the text is not an expression.
    """

    def __init__(self, field: str, text: str) -> None:
        try:
            parsed = jmespath.compile(text).parsed
        except JMESPathError as exc:
            raise misconfigured(f"the extra 'answer': {field!r} is not a JMESPath expression") from exc
        self.field, self.text = field, text
        self._whole = ParsedResult(text, parsed)
        self._paths = list(_paths(parsed))

    def search(self, document: Any) -> Any:
        """Return the value of the expression. Raises one of `FAILURES` if it cannot be computed."""
        return self._whole.search(document)

    def has_source(self, document: Any) -> bool:
        """Return whether at least one field that the expression reads is in *document*; a comparison has a value without any."""
        try:
            return any(self._is_in(path, document) for path in self._paths)
        except FAILURES:
            return False

    def _is_in(self, path: dict[str, Any], document: Any) -> bool:
        if self._value(path, document) is not None:
            return True
        if path["type"] not in _STEPS:
            return False
        container = path["children"][0]
        value = self._value(container, document)
        if isinstance(value, list):  # an empty list of defects is an answer; an empty document is none
            return bool(value) or container["type"] not in {"current", "identity"}
        return value is None and self._is_in(container, document)

    def _value(self, path: dict[str, Any], document: Any) -> Any:
        return ParsedResult(self.text, path).search(document)


def _paths(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the parts of an expression that read the document: `a.b` and `c` in `a.b == 'x' || c`."""
    root = node
    while root["type"] in _STEPS:
        root = root["children"][0]
    if root["type"] in _ROOTS:
        yield node
    elif root["type"] == "pipe":
        yield from _paths(root["children"][0])
    elif root["type"] != "expref":
        for child in root["children"]:
            yield from _paths(child)
