"""`anomaly detach`."""

from __future__ import annotations

import os

import click

from anomaly.commands.output import examples, json_option, print_json, print_line


@click.command(epilog=examples("anomaly detach shop.photos"))
@click.argument("source")
@json_option
def command(*, source: str, as_json: bool) -> None:
    """Remove the trigger of a source and what is known of its progress.

    SOURCE is its name. Its records and their results stay. Remove it from the configuration as well, or the next run looks for its rows.
    """
    from anomaly.maintenance.sources import detach
    from anomaly.settings import Settings

    registered = detach(Settings.from_environ(os.environ), source)
    if as_json:
        print_json({"source": source, "detached": registered})
        return
    print_line(f"{source}: {'detached' if registered else 'it was not attached'}; its records stay")
