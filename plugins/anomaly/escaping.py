"""Makes text from outside safe to print: it can neither end a line, nor control a terminal, nor change the direction of other text."""

from __future__ import annotations

import unicodedata

_SEPARATORS = {"Zl", "Zp"}


def escaped(text: str) -> str:
    r"""Return *text* with control and format characters, line separators and lone surrogates as Python's escapes, such as `\x1b`."""
    return text if text.isprintable() else "".join(map(_escaped_char, text))


def escaped_lines(text: str) -> str:
    """Return *text* with its lines kept. Each is escaped and indented, so that none looks like a line of a log."""
    return "\n".join(f"    {escaped(line)}" for line in text.rstrip("\n").split("\n"))


def escape_chain(error: BaseException) -> None:
    """Escape the texts of an error's causes and contexts, which a traceback prints. Ours are escaped already."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        each.args = tuple(escaped(arg) if isinstance(arg, str) else arg for arg in each.args)
        pending += [linked for linked in (each.__cause__, each.__context__) if linked]
        if isinstance(each, BaseExceptionGroup):
            pending += each.exceptions


def _escaped_char(char: str) -> str:
    category = unicodedata.category(char)
    return char.encode("unicode_escape").decode() if category.startswith("C") or category in _SEPARATORS else char
