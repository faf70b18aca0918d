"""`anomaly follow-thresholds`."""

from __future__ import annotations

import os

import click

from anomaly.commands.database import records_database
from anomaly.commands.output import examples, json_option, print_json, print_line


@click.command(epilog=examples("anomaly follow-thresholds --dry-run", "anomaly follow-thresholds"))
@click.option("--dry-run", is_flag=True, help="Only count the records.")
@json_option
def command(*, dry_run: bool, as_json: bool) -> None:
    """Read earlier verdicts by the thresholds that are stored on the page.

    The flags of each record follow the threshold of its detector, without a request to the detector.
    The command may be stopped and repeated at any time.
    """
    from anomaly.maintenance.thresholds import follow_thresholds
    from anomaly.settings import Settings

    with records_database() as database:
        counts = follow_thresholds(Settings.from_environ(os.environ), database, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, **counts})
    elif dry_run:
        print_line(f"{counts['left']} records have to follow a threshold")
    else:
        print_line(
            f"{counts['followed']} records followed a threshold, {counts['changed']} have another verdict, {counts['left']} are left"
        )
