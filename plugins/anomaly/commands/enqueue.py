"""`anomaly enqueue`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from anomaly.commands.database import records_database
from anomaly.commands.output import examples, json_option, print_json, print_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.intake.readers import Columns


@click.command(
    epilog=examples(
        "anomaly enqueue photos.csv",
        "anomaly enqueue export.csv --url-column url --time-column taken_at --key-column id --attribute camera --strict",
        "anomaly enqueue --list addresses.txt",
        "anomaly enqueue s3://images/2026/ --json",
        "anomaly enqueue --sql new_photos.sql",
    )
)
@click.argument("origin", metavar="ORIGIN")
@click.option("--list", "kind", flag_value="list", help="ORIGIN is a list with an address in each line.")
@click.option("--sql", "kind", flag_value="sql", help="ORIGIN is a file with a query, which runs in a transaction that may only read.")
@click.option("--url-column", default="image_url", show_default=True, metavar="NAME", help="Column of the address.")
@click.option("--time-column", metavar="NAME", help="Column of the time of capture.  [default: captured_at, if there is one]")
@click.option("--key-column", metavar="NAME", help="Column that identifies a row.  [default: the address does]")
@click.option("--attribute", "attributes", multiple=True, metavar="NAME", help="Column to keep in attributes. May be repeated.")
@click.option("--source", default="enqueue", show_default=True, metavar="NAME", help="Name under which rows are known.")
@click.option("--strict", is_flag=True, help="Add nothing if a row is invalid, instead of skipping it.")
@click.option("--dsn", help="URI of the database of the query.  [default: Airflow's connection anomaly_db]")
@json_option
def command(
    *,
    origin: str,
    kind: str | None,
    url_column: str,
    time_column: str | None,
    key_column: str | None,
    attributes: tuple[str, ...],
    source: str,
    strict: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Add records for images.

    ORIGIN is a CSV file with a header, a list of addresses, a query, or a bucket with a prefix: s3://bucket/prefix. A file may be -,
    which is standard input.

    Rows are known by their key, or else by their address, and those that are records already are skipped. So a command that was
    interrupted may simply be repeated. Without a time of capture, a row is captured now, and an object of a bucket when it was written.
    """
    from anomaly.intake.adding import add
    from anomaly.intake.readers import Columns

    columns = Columns(image_url=url_column, captured_at=time_column, key=key_column, attributes=attributes)
    with records_database() as database:
        added = add(database, _rows(origin, kind, columns, dsn), source=source, strict=strict)
    for fault in added.faults:
        click.echo(fault, err=True)
    if (more := added.invalid - len(added.faults)) > 0:
        click.echo(f"and {more} more invalid rows", err=True)
    if as_json:
        print_json(added.counts())
        return
    print_line(", ".join(f"{count} {name}" for name, count in added.counts().items()))


def _rows(origin: str, kind: str | None, columns: Columns, dsn: str | None) -> Iterator[tuple[str, object]]:
    from anomaly.intake import readers

    if kind == "sql":
        yield from _query_rows(origin, columns, dsn)
    elif kind is None and origin.startswith("s3://"):
        from anomaly.intake.connected import bucket_rows
        from anomaly.settings import Settings

        yield from bucket_rows(origin, Settings.from_environ(os.environ))
    else:
        with _open(origin) as lines:
            yield from readers.read_addresses(lines) if kind == "list" else readers.read_csv(lines, columns)


def _query_rows(origin: str, columns: Columns, dsn: str | None) -> Iterator[tuple[str, object]]:
    from anomaly import connections
    from anomaly.db.query import rows_of_query
    from anomaly.settings import Settings

    with _open(origin) as file:
        query = file.read()
    rows = rows_of_query(dsn or connections.records_dsn(), query, Settings.from_environ(os.environ))
    for number, values in enumerate(rows, 1):
        if number == 1:
            columns.check(list(values))
        yield f"row {number}", columns.row(values)


def _open(origin: str) -> Any:
    """Open a file as UTF-8; other bytes become lone surrogates, and their rows invalid."""
    try:
        return click.open_file(origin, encoding="utf-8-sig", errors="surrogateescape")
    except OSError as exc:
        raise click.ClickException(f"{origin} cannot be read: {exc.strerror}") from exc
