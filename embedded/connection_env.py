"""A connection from an environment variable, read as Airflow reads it, without the seconds that importing Airflow takes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from anomaly.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What of an Airflow connection matters to us."""

    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def read(variable: str, value: str) -> Given:
    """The connection that the variable's value stands for.

    Raises:
        Misconfigured: it is neither a connection URI nor JSON.
    """
    try:
        return _from_json(json.loads(value)) if value.lstrip().startswith("{") else _from_uri(value)
    except (ValueError, TypeError, AttributeError) as exc:
        raise Misconfigured(f"{variable} is neither a connection URI nor JSON as Airflow reads them; .env.example shows both") from exc


def _from_json(value: Mapping[str, Any]) -> Given:
    extra = value.get("extra") or {}
    port = value.get("port")
    return Given(
        host=value.get("host"),
        port=int(port) if port else None,
        login=value.get("login"),
        password=value.get("password"),
        schema=value.get("schema"),
        extra=dict(json.loads(extra) if isinstance(extra, str) else extra),
    )


def _from_uri(uri: str) -> Given:
    """As in `http://host`, or `http://https://host`, where the host brings a protocol of its own."""
    kind, separator, rest = uri.partition("://")
    if not kind or not separator:
        raise ValueError(kind)
    parts = urlsplit(rest if "://" in rest else f"//{rest}")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return Given(
        host=_host(parts),
        port=parts.port,
        login=_text(parts.username),
        password=_text(parts.password),
        schema=_text(parts.path.removeprefix("/")),
        extra=json.loads(query["__extra__"]) if "__extra__" in query else query,
    )


def _host(parts: SplitResult) -> str | None:
    name = unquote(parts.hostname or "")
    return f"{parts.scheme}://{name}" if name and parts.scheme else name or None


def _text(part: str | None) -> str | None:
    return unquote(part) if part else None
