"""Text from outside can neither end a line, nor control a terminal, nor change the direction of other text."""

from __future__ import annotations

import traceback
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.errors import DetectorAnswerInvalid, DetectorFailed, ImageDenied
from anomaly.escaping import escape_chain, escaped, escaped_lines

HOSTILE = {
    "a line end": ("a\nb", "a\\nb"),
    "a carriage return": ("done\rfailed", "done\\rfailed"),
    "next line": ("a\x85b", "a\\x85b"),
    "a vertical tab and a form feed": ("a\x0b\x0cb", "a\\x0b\\x0cb"),
    "a separator of lines": ("a\u2028b", "a\\u2028b"),
    "a separator of paragraphs": ("a\u2029b", "a\\u2029b"),
    "separators of files and records": ("a\x1c\x1d\x1e\x1fb", "a\\x1c\\x1d\\x1e\\x1fb"),
    "a colour": ("\x1b[31mred", "\\x1b[31mred"),
    "a cleared screen": ("\x1b[2J\x1b[H", "\\x1b[2J\\x1b[H"),
    "a title": ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
    "a link": ("\x1b]8;;http://evil\x1b\\", "\\x1b]8;;http://evil\\x1b\\"),
    "a clipboard": ("\x1b]52;c;ZXZpbA==\x9c", "\\x1b]52;c;ZXZpbA==\\x9c"),
    "a C1 sequence": ("\x9b31m", "\\x9b31m"),
    "a device control string": ("\x90q\x9c", "\\x90q\\x9c"),
    "a bell and a backspace": ("\x07no\x08\x08ok", "\\x07no\\x08\\x08ok"),
    "NUL and DEL": ("\x00\x7f", "\\x00\\x7f"),
    "shifts to other character sets": ("\x0e\x0f", "\\x0e\\x0f"),
    "an override of direction": ("\u202egnp.exe", "\\u202egnp.exe"),
    "an embedding": ("\u202aa\u202b\u202c\u202d", "\\u202aa\\u202b\\u202c\\u202d"),
    "isolates": ("\u2066a\u2067\u2068\u2069", "\\u2066a\\u2067\\u2068\\u2069"),
    "marks of direction": ("\u200ea\u200f\u061c", "\\u200ea\\u200f\\u061c"),
    "nothing to see": ("pass\u200bword\ufeff\u2060\u00ad", "pass\\u200bword\\ufeff\\u2060\\xad"),
    "annotations": ("\ufff9a\ufffab\ufffb", "\\ufff9a\\ufffab\\ufffb"),
    "tags": ("\U000e0041", "\\U000e0041"),
    "half a pair": ("half \ud83d", "half \\ud83d"),
    "the other half": ("\udc00", "\\udc00"),
    "what is private": ("\ue000\U0010fffd", "\\ue000\\U0010fffd"),
    "what is no character": ("\uffff\U0001fffe", "\\uffff\\U0001fffe"),
}
HARMLESS = ["", "plain", "Übermaß ≥ 2 mm", "画像が見つかりません　四〇四", "צילום פגום", "صورة", "😀", "a\xa0b", "C:\\temp", "e\u0301"]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_could_do_harm_is_written_as_an_escape(name: str) -> None:
    text, expected = HOSTILE[name]
    assert escaped(text) == expected
    assert str(ImageDenied(text)) == expected
    assert str(DetectorAnswerInvalid("unreadable", begins=text)).endswith(expected)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


@given(st.text(st.characters(), max_size=50))
def test_nothing_that_is_left_controls_or_separates(text: str) -> None:
    shown = escaped(text)
    assert len(shown.splitlines()) <= 1
    assert not [char for char in shown if unicodedata.category(char)[0] == "C"]
    assert escaped(shown) == shown
    assert shown.encode().decode() == shown


def test_lines_are_kept_and_indented() -> None:
    assert escaped_lines("a\n\x1bb\n") == "    a\n    \\x1bb"


def test_all_texts_of_a_traceback_are_escaped() -> None:
    try:
        try:
            try:
                raise OSError("first\x1b[2J")  # noqa: TRY301  # the chain is what the test needs
            except OSError as exc:
                raise ValueError("second\n\ud800") from exc
        except ValueError as exc:
            raise ExceptionGroup("some", [DetectorFailed("third\u202e"), KeyError("fourth\x9b")]) from exc
    except ExceptionGroup as exc:
        exc.__context__ = exc.__cause__
        escape_chain(exc)
        shown = "".join(traceback.format_exception(exc))
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "OSError: first\\x1b[2J" in shown
    assert "ValueError: second\\n\\ud800" in shown
    assert "DetectorFailed: third\\u202e" in shown
