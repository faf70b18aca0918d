"""`anomaly status`."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import click

from anomaly.commands.database import records_database
from anomaly.commands.output import console, examples, json_option, print_json, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Group

    from anomaly.db.client import Database


@click.command(epilog=examples("anomaly status", "anomaly status --runs 20 --json", "anomaly status --watch 5"))
@click.option("--runs", type=click.IntRange(0, 1000), default=5, show_default=True, help="Number of last runs.")
@click.option("--watch", type=click.FloatRange(0.1, 3600), metavar="SECONDS", help="Repeat until Ctrl-C; JSON has one line each time.")
@json_option
def command(*, runs: int, watch: float | None, as_json: bool) -> None:
    """Show the backlog, the runs in work and the last runs.

    Of pending, claimed and quarantined records, at most a million each are counted.
    """
    with records_database() as database, contextlib.suppress(KeyboardInterrupt) if watch else contextlib.nullcontext():
        while True:
            _show(_read(database, runs), once=watch is None, as_json=as_json)
            if watch is None:
                return
            time.sleep(watch)  # the interval that the user chose


def _show(found: dict[str, Any], *, once: bool, as_json: bool) -> None:
    if as_json:
        print_json(found, indent=2 if once else None)
        return
    screen = console()
    if not once:
        screen.clear()
    for each in _tables(found):
        screen.print(each)


def _read(database: Database, runs: int) -> dict[str, Any]:
    from anomaly.db.inspection import InspectionStore
    from anomaly.db.maintenance import MaintenanceStore
    from anomaly.db.stats import StatsStore

    overview = InspectionStore(database)
    due = MaintenanceStore(database).oldest_due()
    return {
        "backlog": overview.backlog(),
        "oldest_due": dataclasses.asdict(due) if due else None,
        "task_records_per_s": StatsStore(database).records_per_s(),
        "open_runs": overview.open_batches(),
        "last_runs": overview.last_runs(runs),
    }


def _tables(found: dict[str, Any]) -> Iterator[Group]:
    from anomaly.images.address import redacted

    due, rate = found["oldest_due"], found["task_records_per_s"]
    states = ("due", "later", "claimed", "quarantined")
    backlog = [(each["source"], *(each[state] for state in states)) for each in found["backlog"]]
    yield table("Records that are not done", ("source", *states), backlog)
    if due:
        oldest = (due["record_id"], due["since"], due["age_s"] / 3600, redacted(due["image_url"] or ""))
        yield table("Oldest due record", ("id", "captured (UTC)", "hours ago", "image"), [oldest])
    leases = [
        (run["run_id"], run["created_at"], run["claimed"], run["held"], run["waiting"], run["working"], run["expired"], run["leased_until"])
        for run in found["open_runs"]
    ]
    columns = ("run", "began (UTC)", "claimed", "held", "chunks waiting", "in work", "expired", "next lease ends (UTC)")
    yield table("Runs in work", columns, leases)
    ended = [
        (run["run_id"], run["created_at"], run["ended_at"], run["claimed"], _outcomes(run["outcomes"]), run["records_per_s"])
        for run in found["last_runs"]
    ]
    title = "Last runs" if rate is None else f"Last runs; a task did {rate:.4g} records/s"
    yield table(title, ("run", "began (UTC)", "ended (UTC)", "claimed", "outcomes", "records/s"), ended)


def _outcomes(counts: dict[str, int]) -> str:
    return ", ".join(f"{records} {event}" for event, records in sorted(counts.items(), key=lambda each: -each[1]))
