"""`anomaly resume-detector`."""

from __future__ import annotations

import os

import click

from anomaly.commands.output import examples, json_option, print_json, print_line


@click.command(epilog=examples("anomaly resume-detector anomaly_detector"))
@click.argument("connection")
@json_option
def command(*, connection: str, as_json: bool) -> None:
    """End a pause that a detector has asked for.

    CONNECTION is the id of the detector's connection.
    """
    from anomaly import connections
    from anomaly.settings import Settings

    with connections.detector_pauses(Settings.from_environ(os.environ)) as pauses:
        records = pauses.resume(connection)
    if as_json:
        print_json({"detector": connection, "paused": records is not None, "records": records})
        return
    said = "there is no pause" if records is None else f"the pause has ended; {records} records that waited for it are due"
    print_line(f"{connection}: {said}")
