"""`anomaly errors`."""

from __future__ import annotations

import click

from anomaly.commands.database import records_database
from anomaly.commands.output import console, examples, json_option, print_json, print_line, table


@click.command(epilog=examples("anomaly errors", "anomaly errors --json"))
@json_option
def command(*, as_json: bool) -> None:
    """Show why records failed, and what to do.

    The quarantined and the pending records with an error, by code, with the newest record as an example. At most a million of each code
    are counted.
    """
    from anomaly.advice import ADVICE
    from anomaly.db.inspection import InspectionStore

    with records_database() as database:
        found = InspectionStore(database).errors()
    for each in found:
        each["cause"], each["fix"] = ADVICE.get(each["code"], ("an error of another version", "read the error"))
    if as_json:
        print_json(found)
    elif not found:
        print_line("no record has an error")
    else:
        rows = [(e["code"], e["quarantined"], e["pending"], e["record_id"], e["error"], e["fix"].replace("`", "")) for e in found]
        console().print(table("Errors", ("code", "quarantined", "pending", "such as", "its error", "what to do"), rows))
