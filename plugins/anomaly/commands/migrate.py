"""`anomaly migrate`."""

from __future__ import annotations

import click

from anomaly.commands.database import dsn_option
from anomaly.commands.output import examples, json_option, print_json, print_line


@click.command(epilog=examples("anomaly migrate", "anomaly migrate --dsn postgresql://user:password@db.example:5432/records"))
@dsn_option
@json_option
def command(*, dsn: str, as_json: bool) -> None:
    """Bring the database schema up to date."""
    from anomaly.db.schema import migrate

    applied = migrate(dsn)
    if as_json:
        print_json({"applied": applied})
        return
    for name in applied or ["nothing: the schema is up to date"]:
        print_line(f"applied {name}")
