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
_PROJECTIONS = {"projection", "filter_projection", "value_projection"}
_STEPS = {"subexpression", "index_expression", "flatten", *_PROJECTIONS}


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
        """Return whether *document* has what *path* reads. An empty list of defects is an answer; an empty document is none."""
        kind = path["type"]
        if kind in _ROOTS:
            value = self._value(path, document)
            return value is not None and (kind == "field" or value not in ([], {}, ""))
        inner = path["children"][0]
        if kind == "flatten":
            return self._is_in(inner, document)
        value = self._value(inner, document)
        if kind in _PROJECTIONS and value:
            return self._is_in_items(path, list(value.values() if isinstance(value, dict) else value))
        if kind == "index_expression" and isinstance(value, list) and value:
            return None not in value
        if self._value(path, document) is not None and kind not in _PROJECTIONS:
            return True
        is_empty = value == [] and kind != "subexpression"
        return (value is None or is_empty) and self._is_in(inner, document)

    def _is_in_items(self, path: dict[str, Any], items: list[Any]) -> bool:
        """Return whether an item has what a projection reads: the fields of its filter, and the rest in one that the filter keeps."""
        _, rest, *filters = path["children"]
        read = [field for each in filters for field in _paths(each)]
        if read and not any(self._is_in(field, item) for item in items for field in read):
            return False
        kept = [item for item in items if all(self._value(each, item) for each in filters)]
        return not kept or rest["type"] == "identity" or any(self._is_in(rest, item) for item in kept)

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
