"""Fits text into databases whose encoding lacks some characters, such as LATIN1."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from psycopg.types.json import Jsonb

UNICODE = "UTF8"
ASCII = "ascii"
_AS_TEXT = partial(json.dumps, ensure_ascii=False)
"""Postgres translates no `\\u` escape into an encoding that lacks the character, and none at all into SQL_ASCII."""


def codecs_of(server_encoding: str) -> list[str]:
    """Return Python's codecs for the text of a database, the closest one first. In UTF-8, everything fits as it is."""
    if server_encoding == UNICODE:
        return []
    if server_encoding == "SQL_ASCII":
        return ["utf-8", ASCII]
    try:
        return [codecs.lookup(server_encoding.replace("WIN", "cp").replace("KOI8", "koi8-")).name, ASCII]
    except LookupError:
        return [ASCII]


def fitted(value: Any, codec: str) -> Any:
    """Return a parameter of a statement with `?` for each character that the codec lacks."""
    match value:
        case str():
            return value.encode(codec, "replace").decode(codec)
        case Jsonb():
            return Jsonb(fitted(value.obj, codec), dumps=_AS_TEXT)
        case Mapping():
            return {fitted(name, codec): fitted(each, codec) for name, each in value.items()}
        case list() | tuple():
            return [fitted(each, codec) for each in value]
    return value
