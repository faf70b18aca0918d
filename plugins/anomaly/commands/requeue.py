"""`anomaly requeue`."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import click

from anomaly.commands.database import check_code, records_database, window_options
from anomaly.commands.output import examples, json_option, print_json, print_line

if TYPE_CHECKING:
    from datetime import datetime


@click.command(
    epilog=examples(
        "anomaly requeue --code image_not_found --dry-run",
        "anomaly requeue --code image_not_found --window-start 2026-01-01",
        "anomaly requeue --id 1 --id 2",
    )
)
@click.option("--code", metavar="CODE", callback=check_code, help="Only records whose last error has this code.")
@click.option("--id", "record_ids", type=int, multiple=True, help="Only this record. May be repeated.")
@window_options
@click.option("--dry-run", is_flag=True, help="Only count the records.")
@json_option
def command(
    *,
    code: str | None,
    record_ids: tuple[int, ...],
    window_start: datetime | None,
    window_end: datetime | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put quarantined records back into work.

    A record must match all that is given. It becomes pending without attempts, and its log has the name of the user.
    """
    from anomaly.db.quarantine import QuarantineStore
    from anomaly.models.runs import QuarantineFilter, Window

    chosen = QuarantineFilter(error_code=code, window=Window(start=window_start, end=window_end), record_ids=record_ids or None)
    if chosen == QuarantineFilter() and not dry_run:
        raise click.UsageError("Choose records by --code, --id, --window-start or --window-end.")
    with records_database() as database:
        counts = QuarantineStore(database).requeue(chosen, actor=getpass.getuser(), dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "records": counts})
        return
    done = "would be requeued" if dry_run else "requeued"
    for name, records in counts.items():
        print_line(f"{name}: {records} {done}")
    if not counts:
        print_line("no quarantined record matches")
