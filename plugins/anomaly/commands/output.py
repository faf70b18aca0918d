"""Parts that the commands share: the option `--json`, examples in the help, and tables."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from anomaly.escaping import escaped
from anomaly.export.tables import in_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PIPED_WIDTH = 200
"""Columns of a table that does not go to a terminal."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


def examples(*lines: str) -> str:
    """Return the epilog of a command's help."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def print_line(text: object) -> None:
    """Print a line. Control characters, which may come from data, are escaped."""
    click.echo(escaped(str(text)))


def print_json(document: Any, *, indent: int | None = 2) -> None:
    """Print a document; times are in ISO 8601."""
    click.echo(json.dumps(document, indent=indent, default=in_json))


def console() -> Console:
    """Return a console on standard output. Text is printed as it is, without markup."""
    made = Console(highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = PIPED_WIDTH
    return made


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Group:
    """Return a table with a title. Columns of numbers are aligned to the right; None is an empty cell, and no names are no header."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    rows = list(rows)
    for name, values in zip(columns, zip(*rows, strict=True) if rows else [()] * len(columns), strict=True):
        numeric = any(isinstance(value, int | float | Decimal) for value in values)
        made.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(_cell(value)) for value in row))
    return Group(Text(escaped(title), style="bold"), made)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() | float() | Decimal():
            return f"{value:,.4g}" if not isinstance(value, int) else f"{value:,}"
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return escaped(str(value))
