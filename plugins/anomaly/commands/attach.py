"""`anomaly attach`."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Any

import click

from anomaly.commands.output import console, examples, json_option, print_json, print_line, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anomaly.db.source_rows import SourcePreview

COUNTED_MAX = 1_000_000
"""Rows up to which a source is counted."""


@click.command(
    epilog=examples("anomaly attach --dry-run", "anomaly attach", "anomaly attach --trigger", "anomaly attach shop.photos --json")
)
@click.argument("source", required=False)
@click.option("--trigger", is_flag=True, help="Add rows by a trigger on the table instead of looking for them.")
@click.option("--dry-run", is_flag=True, help="Check the sources and show their rows, and store nothing.")
@json_option
def command(*, source: str | None, trigger: bool, dry_run: bool, as_json: bool) -> None:
    """Check the configured sources, show the rows that the next run begins with, and register the sources.

    SOURCE is the name of one of them; by default all.
    """
    from anomaly.maintenance.sources import attach, previews
    from anomaly.settings import Settings

    settings = Settings.from_environ(os.environ)
    seen = previews(settings, source)
    if not as_json:
        for name, preview in seen.items():
            console().print(table(name, ("", ""), _lines(preview)))
    done = {} if dry_run else attach(settings, source, trigger=trigger)
    if as_json:
        print_json({"sources": {name: dataclasses.asdict(preview) | {"finding": done.get(name)} for name, preview in seen.items()}})
        return
    for name, sentence in done.items():
        print_line(f"{name}: {sentence}")
    if not seen:
        print_line("there is no source: add source to the extra of anomaly_db, or set ANOMALY_SOURCE")


def _lines(preview: SourcePreview) -> Iterator[tuple[str, str]]:
    yield "rows", "too many to count in time" if preview.rows is None else f"{preview.rows:,}{_or_more(preview.rows)}"
    yield "looked at", f"{preview.looked_at:,}, those that the next run begins with"
    yield "to be added", f"{preview.new:,}"
    yield "records already", f"{preview.known:,}"
    yield "refused", f"{preview.refused.rows:,}"
    yield from (("", fault) for fault in preview.refused.faults)
    if preview.example:
        yield "the first one", ""
        yield from _fields(preview.example)


def _fields(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((f"  {name}", row[name]) for name in ("key", "image_url", "captured_at"))
    yield from ((f"  {name}", json.dumps(value, ensure_ascii=False)) for name, value in json.loads(row["attributes"]).items())


def _or_more(rows: int) -> str:
    return " or more" if rows == COUNTED_MAX else ""
