"""`anomaly export`."""

from __future__ import annotations

import csv
import json
from typing import IO, TYPE_CHECKING, Any

import click

from anomaly.commands.database import check_code, check_name, records_database, window_options
from anomaly.commands.output import examples, json_line, json_option

if TYPE_CHECKING:
    from datetime import datetime

COLUMNS = (
    *("record_id", "source", "source_key"),
    *("image_url", "captured_at", "status", "attributes", "attempts", "last_error_code", "last_error", "processed_at"),
    *("scored_at", "detector", "score", "threshold", "is_anomaly", "label", "reason", "regions", "reused", "cost", "run_id"),
    *("image_key", "answer_key", "heatmap_key", "needs_review", "review", "reviewed_by", "reviewed_at"),
)
STATES = ("pending", "claimed", "done", "quarantined")


@click.command(
    epilog=examples(
        "anomaly export",
        "anomaly export --status done --detector padim@1 --window-start 2026-01-01 --output verdicts.csv",
        "anomaly export --code image_not_found --json",
    )
)
@click.option("--status", "statuses", type=click.Choice(STATES), multiple=True, help="Only records in this state. May be repeated.")
@click.option("--code", metavar="CODE", callback=check_code, help="Only records whose last error has this code.")
@click.option("--detector", metavar="NAME", help="Only records with a result of this detector, and its newest one.")
@window_options
@click.option("--output", type=click.File("w", encoding="utf-8", lazy=True), default="-", help="File to write.  [default: standard output]")
@json_option
def command(
    *,
    statuses: tuple[str, ...],
    code: str | None,
    detector: str | None,
    window_start: datetime | None,
    window_end: datetime | None,
    output: IO[str],
    as_json: bool,
) -> None:
    """Write records with their newest verdict as CSV, or as JSON lines with --json.

    Records are read a thousand at a time: one state after the other, by capture time. A run may move records from one state to another
    meanwhile.
    """
    from anomaly.db.overview import ExportFilter, OverviewStore
    from anomaly.models.runs import Window

    with records_database() as database:
        overview = OverviewStore(database)
        if detector is not None:
            check_name("detector", detector, overview.detectors())
        window = Window(start=window_start, end=window_end)
        rows = overview.export(ExportFilter(statuses=statuses or STATES, error_code=code, detector=detector, window=window))
        if as_json:
            output.writelines(json_line({name: row[name] for name in COLUMNS}) for row in rows)
            return
        writer = csv.writer(output)
        writer.writerow(COLUMNS)
        writer.writerows([_cell(row[name]) for name in COLUMNS] for row in rows)


def _cell(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return json.dumps(value) if isinstance(value, list | dict) else value
