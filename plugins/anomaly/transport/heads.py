"""Heads of HTTP/1.1 messages, written and read by hand where they are plain; the standard library makes an e-mail of each.

https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # that of the RFC
_REQUEST = re.compile(rf"{_TOKEN} [^\x00-\x20\x7f]+ HTTP/1\.1")
_FIELD = re.compile(rf"{_TOKEN}: [^\x00-\x08\x0a-\x1f\x7f]*")
_PLAIN = re.compile(rf"HTTP/1\.1 ([2-5][0-9]{{2}}) ([^\r\n]*)\r\n((?:{_TOKEN}:[^\r\n]*\r\n)*)")
_PLAIN_FIELD = re.compile(r"([^:]+):[ \t]*([^\r\n]*?)[ \t]*\r\n")
_BODILESS = frozenset({204, 304})


class Head(NamedTuple):
    """Of an answer whose body has a known length, and whose connection stays open after it."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body_bytes: int
    size: int
    """Bytes of the head itself."""


def written(method: str, target: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """The head of a request.

    Raises:
        ValueError: it would not be one head, since a name or value holds what may not be in it.
    """
    lines = [f"{method} {target} HTTP/1.1"]
    if not _REQUEST.fullmatch(lines[0]):
        raise ValueError("a method or target with what may not be in it")
    for name, value in fields:
        line = f"{name}: {value}"
        if not _FIELD.fullmatch(line):
            raise ValueError(f"a header {name!r} with what may not be in it")
        lines.append(line)
    return "\r\n".join((*lines, "\r\n")).encode("latin-1")


def read(data: bytes) -> Head | None:
    """The head with which *data* begins; None where it is not whole, or not so plain that nothing has to be decided."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or not (plain := _PLAIN.fullmatch(data[: end + 2].decode("latin-1"))):
        return None
    status, fields = int(plain[1]), _PLAIN_FIELD.findall(plain[3])
    length = None
    for name, value in fields:
        match name.lower():
            case "content-length":
                if length is not None or not (value.isascii() and value.isdigit()):
                    return None
                length = int(value)
            case "transfer-encoding":
                return None
            case "connection" if value.lower() != "keep-alive":
                return None
    if length is None or status in _BODILESS:
        return None
    return Head(status, plain[2], fields, length, end + 4)
