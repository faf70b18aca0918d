"""`anomaly attach`."""

from __future__ import annotations

import os

import click

from anomaly.commands.output import examples, json_option, print_json, print_line


@click.command(epilog=examples("anomaly attach", "anomaly attach --trigger", "anomaly attach shop.photos --json"))
@click.argument("source", required=False)
@click.option("--trigger", is_flag=True, help="Add rows by a trigger on the table instead of looking for them.")
@json_option
def command(*, source: str | None, trigger: bool, as_json: bool) -> None:
    """Check the configured sources and register them.

    SOURCE is the name of one of them; by default all.
    """
    from anomaly.maintenance.sources import attach
    from anomaly.settings import Settings

    done = attach(Settings.from_environ(os.environ), source, trigger=trigger)
    if as_json:
        print_json({"sources": done})
        return
    for name, sentence in done.items():
        print_line(f"{name}: {sentence}")
    if not done:
        print_line("there is no source: add source to the extra of anomaly_db, or set ANOMALY_SOURCE")
