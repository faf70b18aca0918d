"""Reads `.env`: `python -m embedded.env_file PATH` prints its variables as commands for a shell.

A file has one meaning for this module, a shell and docker compose: what they would read differently is refused. Imports only the
standard library, because `.env` is read before anything is installed.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly import env_names
from anomaly.errors import AnomalyError, Misconfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

REFUSED = 2
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PLAIN = r"[\w@%+:,./=?!^*\[\]-]*"
"""A value without quotes that a shell neither cuts nor changes."""
ENTRY = re.compile(
    rf"""[ \t]*(?:export[ \t]+)?({NAME.pattern})="""
    rf"""(?:'([^'\0]*)'|"([^"\\$`\0]*)"|({PLAIN}))[ \t]*(?:(?<=[ \t])\#.*)?(?:\n|\Z)"""
)
BLANK = re.compile(r"[ \t]*(?:#.*)?(?:\n|\Z)")


def read(text: str) -> dict[str, tuple[str, int]]:
    """Return the value of each variable, and the number of its line.

    Raises:
        Misconfigured: a line cannot be read; the sentence has its number, and no value.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found: dict[str, tuple[str, int]] = {}
    at = 0
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        if entry := ENTRY.match(text, at):
            name, *values = entry.groups()
            found[name] = next(value for value in values if value is not None), line
        elif not (entry := BLANK.match(text, at)):
            raise Misconfigured(f".env, line {line}: {_fault(text[at:])}")
        at = entry.end()
    return found


def _fault(rest: str) -> str:
    line = rest.partition("\n")[0].strip(" \t")
    name, equals, value = line.removeprefix("export ").partition("=")
    if not equals or not name.strip():
        return "it is neither NAME='value' nor a comment"
    if name != name.strip(" \t") or value != value.lstrip(" \t"):
        return "no space may be next to the ="
    if not NAME.fullmatch(name):
        return f"{name[:50]!r} cannot be the name of a variable"
    if value.startswith("'"):
        return f"the single quotes of {name} do not end with its value; write ' as \\u0027 in JSON and as %27 in a URI"
    if value.startswith('"'):
        return f'put the value of {name} into single quotes: in double quotes it may hold none of " \\ $ `'
    char = re.sub(f"^{PLAIN}", "", value)[:1]
    return f"a shell would cut or change the value of {name} at {'a space' if char.isspace() else char}; put it into single quotes"


def load(path: Path) -> dict[str, str]:
    """Return the variables of a file; none if there is no such file.

    Raises:
        Misconfigured: it cannot be read, or a name is almost that of a variable of the project.
    """
    try:
        found = read(path.read_bytes().decode())
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        raise Misconfigured(f".env, line {line}: it is not UTF-8 text") from exc
    except OSError as exc:
        raise Misconfigured(f".env cannot be read: {exc.strerror}") from exc
    for name, (_, line) in found.items():
        if right := env_names.intended(name):
            raise Misconfigured(f".env, line {line}: there is no variable {name}; did you mean {right}?")
    return {name: value for name, (value, _) in found.items()}


def exports(values: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Return commands that export the values. Variables that are set in the environment take precedence."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items() if name not in environ)


def main() -> int:
    try:
        values = load(Path(sys.argv[1]))
        env_names.check(os.environ)
    except AnomalyError as exc:
        print(exc, file=sys.stderr)  # noqa: T201  # the output of a command
        return REFUSED
    sys.stdout.buffer.write(exports(values, os.environ).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
