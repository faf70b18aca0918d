"""Parses JSON answers, those with numbers or nesting beyond Python's limits included."""

from __future__ import annotations

import json
import re
from typing import Any

from anomaly.errors import DetectorAnswerInvalid

DEPTH_MAX = 100
"""Deeper values are replaced by null if an answer cannot be parsed otherwise."""
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


def parse_json(raw: bytes) -> Any:
    """Parse JSON. An integer beyond Python's limit becomes an infinite float, and a value that is nested too deeply null.

    Raises:
        DetectorAnswerInvalid: *raw* is not JSON.
    """
    try:
        try:
            return json.loads(raw)
        except RecursionError:
            return json.loads(_flattened(raw), parse_int=float)
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise
        except ValueError:  # Python refuses integers of more than 4,300 digits
            return json.loads(raw, parse_int=float)
    except (ValueError, RecursionError) as exc:
        raise DetectorAnswerInvalid(f"the answer of {len(raw)} bytes is not JSON") from exc


def _flattened(raw: bytes) -> bytes:
    """Return *raw* with null in place of each value below `DEPTH_MAX`."""
    kept: list[bytes] = []
    depth = end = 0
    for token in _TOKEN.finditer(raw):
        if token[0] in b"[{":
            depth += 1
            if depth == DEPTH_MAX + 1:
                kept.append(raw[end : token.start()])
        elif token[0] in b"]}":
            depth -= 1
            if depth == DEPTH_MAX:
                kept.append(b"null")
                end = token.end()
    return b"".join((*kept, raw[end:])) if depth <= DEPTH_MAX else b""
