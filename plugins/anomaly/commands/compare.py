"""`anomaly compare`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from anomaly.commands.database import check_name, records_database, window_options
from anomaly.commands.output import console, examples, json_option, print_json, table

if TYPE_CHECKING:
    from datetime import datetime


@click.command(
    epilog=examples(
        "anomaly compare padim@1 padim@2", "anomaly compare padim@1 padim@2 --window-start 2026-01-01 --window-end 2026-02-01 --json"
    )
)
@click.argument("first")
@click.argument("second")
@window_options
@click.option("--changed", type=click.IntRange(0, 1000), default=10, show_default=True, help="Number of records with different verdicts.")
@json_option
def command(*, first: str, second: str, window_start: datetime | None, window_end: datetime | None, changed: int, as_json: bool) -> None:
    """Compare the verdicts of two detectors.

    FIRST and SECOND are names as in `ai_results.detector`. Done records that both have scored are compared by the newest result of each.
    """
    from anomaly.db.inspection import InspectionStore
    from anomaly.images.address import redacted
    from anomaly.models.runs import Window

    with records_database() as database:
        overview = InspectionStore(database)
        known = overview.detectors()
        for name in (first, second):
            check_name("detector", name, known)
        found = overview.compare(first, second, Window(start=window_start, end=window_end), examples=changed)
    if as_json:
        print_json({"first": first, "second": second, **dataclasses.asdict(found), "agreement": found.agreement})
        return
    screen = console()
    agreement = "" if found.agreement is None else f", agreement {found.agreement:.1%}"
    counts = [
        (f"{first}: anomaly", found.both_anomalous, found.only_first),
        (f"{first}: normal", found.only_second, found.both_normal),
    ]
    screen.print(table(f"{found.records} records{agreement}", ("", f"{second}: anomaly", f"{second}: normal"), counts))
    names = ("record_id", "captured_at", "first", "first_score", "second", "second_score")
    rows = [[*(each[name] for name in names), redacted(each["image_url"])] for each in found.changed]
    if rows:
        columns = ("id", "captured (UTC)", first, "score", second, "score", "image")
        screen.print(table("Records with different verdicts, the oldest first", columns, rows))
