"""Removes secrets from what a detector sends back, since detectors echo requests in their errors."""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from anomaly.detectors.base import DetectorConnection

CUT = "…"
MIN_CHARS = 4
"""A shorter secret is not looked for: it would be found in ordinary words."""
BROKEN_MIN_CHARS = 8
"""A shorter secret is not looked for across line ends."""
_LINE_BREAK = r"(?:\s|\\[rn])*"
_IN_HTML = re.compile("[<>&]")
_SECRET_NAME = re.compile(r"auth|code|cookie|credential|key|pass|secret|session|sig|token", re.IGNORECASE)
_PLAIN_HEADERS = {"accept", "accept-encoding", "accept-language", "anthropic-beta", "anthropic-version", "content-type", "user-agent"}
_LIKE_SECRET = re.compile(r"[A-Za-z0-9+/=_-]{33,}|(?<=\?)[^\s\"'<>]+|(?<=bearer )\S+|(?<=basic )[A-Za-z0-9+/=]{8,}", re.IGNORECASE)
"""A key or a piece of an image in base64, a query string, and credentials of a header."""


class Redaction:
    """Replaces given secrets, in any of the forms in which they may be echoed."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= MIN_CHARS}
        patterns = [_pattern(form) for form in sorted(forms, key=len, reverse=True)] or [r"(?!)"]
        self._pattern = re.compile("|".join(patterns), re.IGNORECASE)

    @classmethod
    def of(cls, connection: DetectorConnection) -> Redaction:
        """Return the redaction of all that a connection sends as a secret: its password, headers, and keys in its address or body."""
        return cls(_secrets(connection))

    def ours(self, text: str) -> str:
        """Return *text*, which the project has written, without the secrets."""
        return self._pattern.sub(CUT, text)

    def theirs(self, text: str) -> str:
        """Return *text* of a detector without the secrets, and without what looks like a key, a query string or a piece of an image."""
        return _LIKE_SECRET.sub(CUT, self.ours(text))

    def raw(self, raw: bytes) -> bytes:
        """Return *raw* without the secrets, and otherwise unchanged."""
        return self.ours(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def plain_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers whose names are not those of secrets."""
    return {name.lower(): value for name, value in headers.items() if not _SECRET_NAME.search(name)}


def _secrets(connection: DetectorConnection) -> Iterator[str]:
    if connection.password:
        yield connection.password
        if connection.login:
            yield f"{connection.login}:{connection.password}"
    extra = dict(connection.extra)
    headers = extra.pop("headers", {})
    for name, value in headers.items() if isinstance(headers, dict) else ():
        if name.lower() not in _PLAIN_HEADERS and isinstance(value, str):
            yield value
            yield value.rpartition(" ")[2]  # without "Bearer"
    for address in (connection.base_url, extra.get("path")):
        query = parse_qsl(urlsplit(address).query) if isinstance(address, str) else ()
        yield from (value for name, value in query if _SECRET_NAME.search(name))
    for name in ("body", "request"):
        yield from _named_secrets(extra.get(name))


def _named_secrets(document: Any, name: str = "") -> Iterator[str]:
    """Yield the texts of a request's document that stand under a name such as `api_key`."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _named_secrets(value, key)
    elif isinstance(document, list):
        for value in document:
            yield from _named_secrets(value, name)
    elif isinstance(document, str) and _SECRET_NAME.search(name) and "{" not in document:
        yield document


def _pattern(form: str) -> str:
    """Return the pattern of a form. A long one is found even if it is broken into lines."""
    return (_LINE_BREAK if len(form) >= BROKEN_MIN_CHARS else "").join(re.escape(char) for char in form)


def _forms(secret: str) -> Iterator[str]:
    stripped = secret.strip()
    raw = stripped.encode("utf-8", "surrogatepass")
    yield stripped
    yield quote(raw)
    yield quote(raw, safe="")
    yield quote_plus(raw)
    yield html.escape(stripped)
    for in_json in {json.dumps(stripped)[1:-1], json.dumps(stripped, ensure_ascii=False)[1:-1]}:
        escaped_too = in_json.replace("/", "\\/")
        for form in (in_json, escaped_too, _IN_HTML.sub(lambda found: f"\\u{ord(found[0]):04x}", in_json)):
            yield form
            yield json.dumps(form)[1:-1]
    yield b64encode(raw).decode().rstrip("=")
    yield urlsafe_b64encode(raw).decode().rstrip("=")
