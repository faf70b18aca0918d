"""Secrets of any characters are cut out of what a detector echoes, and out of the addresses of images."""

from __future__ import annotations

import html
import json
from base64 import b64encode, urlsafe_b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from hypothesis import example
from hypothesis import strategies as st

from anomaly.detectors.redaction import CUT, Redaction
from anomaly.errors import AddressBlocked
from anomaly.images.address import parse, redacted
from tests.parts.fuzzing import fuzz

if TYPE_CHECKING:
    from collections.abc import Callable

MARKS = "Zq9kf", "Xw7vb"
AROUND = st.text(st.sampled_from("/?#@%:\\[]&=+ ;,'\"<>.*(){}|^$-_é\u2713ab1"), max_size=6)
SECRETS = st.tuples(AROUND, st.just(MARKS[0]), AROUND, st.just(MARKS[1]), AROUND).map("".join)


def lines(text: str, width: int, end: str) -> str:
    return end.join(text[start : start + width] for start in range(0, len(text), width))


def in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper case": str.upper,
    "in a path": quote,
    "in a query": lambda secret: quote(secret, safe=""),
    "in a query, lower case": lambda secret: quote(secret, safe="").lower(),
    "in a form": quote_plus,
    "in HTML": html.escape,
    "in JSON": in_json,
    "in JSON, not in ASCII": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "in JSON with escaped slashes": lambda secret: in_json(secret).replace("/", "\\/"),
    "in JSON for HTML": lambda secret: in_json(secret).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"),
    "in JSON in JSON": lambda secret: in_json(in_json(secret)),
    "base64": lambda secret: b64encode(secret.encode()).decode(),
    "base64 for URLs": lambda secret: urlsafe_b64encode(secret.encode()).decode(),
    "broken into lines": lambda secret: lines(secret, 5, "\n"),
    "broken into indented lines": lambda secret: lines(secret, 7, "\r\n "),
    "broken into lines in JSON": lambda secret: in_json(lines(secret, 7, "\n")),
    "base64 in lines": lambda secret: lines(b64encode(secret.encode()).decode(), 7, "\r\n"),
}


@fuzz(SECRETS, st.sampled_from(list(FORMS)))
def test_a_secret_in_any_form_is_cut_out_of_text_and_bytes(secret: str, form: str) -> None:
    redaction = Redaction([secret])
    echoed = f"wrong {FORMS[form](secret.strip())} !"
    for left in (redaction.ours(echoed), redaction.raw(echoed.encode()).decode()):
        assert left.startswith(f"wrong {CUT}")
        assert left[len(f"wrong {CUT}") :].strip("=\r\n") == " !"


@fuzz(st.binary(max_size=200), SECRETS)
def test_bytes_without_a_secret_stay_as_they_are(raw: bytes, secret: str) -> None:
    assert Redaction([secret]).raw(raw) == raw


SCHEMES = st.sampled_from(
    [
        "http://",
        "https://",
        "HTTP://",
        "http:/",
        "http:",
        "//",
        "",
        "ftp://",
        "http:\\\\",
        "http:///",
        "h\nttp://",
        " http://",
        "jdbc:http://",
    ]
)
HOSTS = st.sampled_from(["h.example", "[::1", "[::1]", "127.0.0.1:80", "h:x", ""])
BASE = parse("http://base.example/a")


@fuzz(SCHEMES, st.sampled_from(["u", "", "u@x", "a b"]), SECRETS, HOSTS, st.sampled_from(["", "/p", "/p/q@r", "/@"]), examples=600)
@example(scheme="http://", user="u", secret="Zq9kf@Xw7vb#", host="h.example", path="")  # noqa: S106  # a part of a password is taken for a host
def test_an_address_is_shown_without_password_query_and_fragment(scheme: str, user: str, secret: str, host: str, path: str) -> None:
    for url in (f"{scheme}{user}:{secret}@{host}{path}", f"{scheme}{host}{path}?sig={secret}", f"{scheme}{host}{path}#{secret}"):
        shown = [redacted(url)]
        for base in (None, BASE):
            try:
                address = parse(url, base=base)
                shown += [str(address), repr(address)]
            except AddressBlocked as exc:
                shown.append(str(exc))
        assert not [text for text in shown if any(mark.lower() in text.lower() for mark in MARKS)], url


def test_what_is_no_secret_is_shown() -> None:
    for url in (
        "https://cdn.example/img@2x.png",
        "http://[2001:db8::1]/a@b.png",
        "http://h.example/a:b/c.png",
        "https://h.example:8443/a.png",
    ):
        assert redacted(url) == str(parse(url)) == url
    assert str(parse("https://u:p@h.example/a.png")) == "https://h.example/a.png"
