"""`anomaly records`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from anomaly.commands.database import records_database
from anomaly.commands.output import console, examples, json_option, print_json, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Group

VERDICT_ROWS = ("created_at", "run_id", "detector", "is_anomaly", "score", "threshold", "label", "reason", "reused", "cost", "latency_ms")
KEY_ROWS = ("image_key", "answer_key", "heatmap_key")


@click.group()
def command() -> None:
    """Show records."""


@command.command(epilog=examples("anomaly records show 1", "anomaly records show 1 --json"))
@click.argument("record_id", metavar="ID", type=int)
@json_option
def show(*, record_id: int, as_json: bool) -> None:
    """Show all that is known about a record.

    The record itself, its claim, its log, its verdicts with their keys in the bucket, and its flags.
    """
    from anomaly.db.inspection import InspectionStore

    with records_database() as database:
        story = InspectionStore(database).story(record_id)
    if story is None:
        raise click.ClickException(f"there is no record {record_id}")
    if as_json:
        print_json(story)
        return
    screen = console()
    for each in _tables(story):
        screen.print(each)


def _tables(story: dict[str, Any]) -> Iterator[Group]:
    yield _pairs("Record", story["record"])
    if story["claim"]:
        yield _pairs("Claim", story["claim"])
    log = [
        (line["at"], line["event"], line["attempt"], line["token"], line["run_id"], line["actor"], _error(line), _text(line["timings"]))
        for line in story["log"]
    ]
    yield table("Log", ("at", "event", "attempt", "token", "run", "actor", "error", "timings in ms"), log)
    for verdict in story["results"]:
        rows = {name: verdict[name] for name in (*VERDICT_ROWS, *KEY_ROWS)}
        yield _pairs(f"Verdict with token {verdict['token']}", rows)
    if story["flags"]:
        yield _pairs("Flags", story["flags"])


def _pairs(title: str, values: dict[str, Any]) -> Group:
    return table(title, ("", ""), [(name, _text(value)) for name, value in values.items() if value is not None])


def _text(value: Any) -> str | None:
    """Return a value of a JSON document as one line."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _error(line: dict[str, Any]) -> str | None:
    return f"{line['error_code']}: {line['error']}" if line["error_code"] else None
