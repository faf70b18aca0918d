"""`anomaly check-sql`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from anomaly.commands.database import dsn_option
from anomaly.commands.output import examples, json_option, print_json, print_line


@click.command(epilog=examples("anomaly check-sql", "anomaly check-sql --folder include/sql --json"))
@dsn_option
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Folder of the files.  [default: include/sql]")
@json_option
@click.pass_context
def command(ctx: click.Context, *, dsn: str, folder: Path | None, as_json: bool) -> None:
    """Check edited SQL files against the database.

    Each statement is planned with the login of the connection, and none is executed.
    """
    from anomaly.db.errors import translating
    from anomaly.db.pool import connector
    from anomaly.db.schema import check_migrations
    from anomaly.db.sql_check import check_statements
    from anomaly.db.statements import FOLDER, Statements
    from anomaly.settings import Settings

    with translating(), connector(dsn, Settings.from_environ(os.environ))() as connection:
        check_migrations(connection)
        faults = check_statements(connection, Statements(folder or FOLDER))
    if as_json:
        print_json(faults)
    else:
        for name, fault in faults.items():
            print_line(f"{name}.sql: {fault or 'ok'}")
    ctx.exit(1 if any(faults.values()) else 0)
