"""Finds codes and words in the bodies of errors, in the shapes in which detectors send them."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from anomaly.backoff import parse_wait_s
from anomaly.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSIDE = ("error", "errors", "detail", "details", "innererror", "violations", "metadata", "choices", "fault")
"""Names under which a body holds more about its error."""
_CODES = ("code", "type", "status", "__type", "error", "reason", "name", "error_code", "errorcode", "quotaid")
_MESSAGES = ("message", "msg", "title", "detail", "details", "error", "errors", "error_description", "description", "errormessage")
_STATUSES = ("code", "status", "status_code", "statuscode", "httpcode")
_DEPTH_MAX, _ITEMS_MAX = 6, 20
_CODE = re.compile(r"[A-Za-z][\w.-]{2,60}")
_SPACE = re.compile(r"\s+")
_UNPRINTABLE = "\ufffd"


def parse(body: bytes) -> Any:
    """Return the JSON document, or None if the body is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def codes(document: Any) -> set[str]:
    """Return the codes in an error's body, in lower case, without a namespace such as `com.amazon.coral#`."""
    return {text.rpartition("#")[2].partition(":")[0].lower() for text in _texts(document, _CODES)}


def messages(document: Any) -> list[str]:
    """Return the sentences in an error's body, and its codes, which some detectors write as sentences."""
    return [document] if isinstance(document, str) else _texts(document, (*_MESSAGES, *_CODES))


def status(document: Any) -> int | None:
    """Return the HTTP status of an error that came in an answer with another status."""
    for place in _places(document):
        for name in _STATUSES:
            value = place.get(name)
            if isinstance(value, str) and value.isascii() and value.isdigit():
                value = int(value[:4])
            if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:  # noqa: PLR2004  # statuses of errors
                return value
    return None


def loading_time_s(document: Any) -> float | None:
    """Return the seconds that a model still needs to load, if the body states them."""
    found = (place.get("estimated_time") for place in _places(document))
    return next((value for value in found if isinstance(value, int | float) and 0 < value < math.inf), None)


def retry_info_s(document: Any) -> float | None:
    """Return the wait in a `google.rpc.RetryInfo` among the error's details, as Gemini sends it."""
    delays = (place.get("retrydelay") for place in _places(document) if str(place.get("@type")).endswith(".RetryInfo"))
    waits = [wait_s for delay in delays if isinstance(delay, str) and (wait_s := parse_wait_s(delay)) is not None]
    return max(waits, default=None)


def words(body: bytes) -> str:
    """Return what the body says to a reader, on one line: of JSON its messages, of HTML its text. Empty for anything else."""
    document = parse(body)
    if document is None:
        return _plain(body)
    return one_line("; ".join(dict.fromkeys(_said(document, _DEPTH_MAX))))


def one_line(text: str) -> str:
    """Return *text* without line ends, and with what cannot be printed escaped."""
    return escaped(_SPACE.sub(" ", text).strip())


def _said(node: Any, depth: int) -> Iterator[str]:
    if isinstance(node, str) and node.strip():
        yield node.strip()
    elif isinstance(node, list) and depth:
        for item in node[:_ITEMS_MAX]:
            yield from _said(item, depth - 1)
    elif isinstance(node, dict) and depth:
        place = _lowered(node)
        said = [text for name in _MESSAGES for text in _said(place.get(name), depth - 1)]
        if not said and not any(name in place for name in (*_MESSAGES, *_CODES)):  # {"image": ["is required"]}
            named = [(name, value) for name, value in place.items() if not name.startswith("@")][:_ITEMS_MAX]
            said = [text if name in _INSIDE else f"{name}: {text}" for name, value in named for text in _said(value, depth - 1)]
        loc, code = place.get("loc"), next((place[name] for name in ("code", "type", "__type") if isinstance(place.get(name), str)), "")
        if isinstance(loc, list) and said:
            yield f"{'.'.join(str(part) for part in loc[:_ITEMS_MAX])}: {said[0]}"
        else:
            yield from ([code] if _CODE.fullmatch(code) and code not in said else [])
            yield from said


def _plain(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    if text.lstrip().startswith("<"):
        page = _Page()
        page.feed(text)
        text = " ".join(page.texts)
    return "" if "\0" in text or text.count(_UNPRINTABLE) > len(text) // 10 else one_line(text)


class _Page(HTMLParser):
    """Collects the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002  # the base's signature
        self._hidden += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"script", "style"} and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)


def _texts(document: Any, names: tuple[str, ...]) -> list[str]:
    return [place[name] for place in _places(document) for name in names if isinstance(place.get(name), str)]


def _places(node: Any, depth: int = _DEPTH_MAX) -> Iterator[dict[str, Any]]:
    """Yield the objects of a body that may describe its error, with their names in lower case."""
    if isinstance(node, list) and depth:
        for item in node[:_ITEMS_MAX]:
            yield from _places(item, depth - 1)
    elif isinstance(node, dict) and depth:
        place = _lowered(node)
        yield place
        for name in _INSIDE:
            yield from _places(place.get(name), depth - 1)


def _lowered(node: dict[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in node.items()}
