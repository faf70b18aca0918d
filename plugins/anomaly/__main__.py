"""Maintains the records database and checks an installation."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly.db.errors import translating
from anomaly.db.pool import connector
from anomaly.db.schema import check_migrations, migrate
from anomaly.db.sql_check import check_statements
from anomaly.db.statements import FOLDER, Statements
from anomaly.errors import DatabaseUnavailable, Misconfigured
from anomaly.escaping import escaped
from anomaly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 on success, 1 if a check failed, 2 with one sentence if it could not run."""
    options = _parser().parse_args(arguments)
    if options.command == "doctor":
        return _run_doctor(options.detector)
    try:
        if options.command == "resume-detector":
            return _resume_detector(options.connection)
        dsn = options.dsn or _dsn()
        return _check_sql(dsn, options.folder) if options.command == "check-sql" else _migrate(dsn)
    except (DatabaseUnavailable, Misconfigured) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anomaly", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (("migrate", "bring the schema up to date"), ("check-sql", "check edited SQL files against the database")):
        command = commands.add_parser(name, help=about)
        command.add_argument("--dsn", help="URI of the records database (default: Airflow's connection anomaly_db)")
    command.add_argument("--folder", type=Path, default=FOLDER, help="folder of the files to check (default: include/sql)")
    doctor = commands.add_parser(
        "doctor", help="check connections, privileges, schema, bucket, detector, clocks and settings, and print how to fix what fails"
    )
    doctor.add_argument("--detector", default="anomaly_detector", help="id of the connection of the detector (default: anomaly_detector)")
    resume = commands.add_parser("resume-detector", help="end a pause that a detector has asked for")
    resume.add_argument("connection", metavar="CONNECTION", help="id of the connection of the detector")
    return parser


def _run_doctor(detector: str) -> int:
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "CRITICAL"  # Airflow logs to stdout, between the findings
    from anomaly.maintenance.doctor import Doctor  # noqa: PLC0415  # as below

    failed = 0
    for finding in Doctor(os.environ, detector=detector).findings():
        sys.stdout.write(f"{escaped(str(finding))}\n")
        sys.stdout.flush()
        failed += bool(finding.problem)
    return 1 if failed else 0


def _resume_detector(detector: str) -> int:
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "CRITICAL"  # as above
    from anomaly import connections  # noqa: PLC0415  # as below

    with connections.detector_pauses(Settings.from_environ(os.environ)) as pauses:
        records = pauses.resume(detector)
    said = "there is no pause" if records is None else f"the pause has ended; {records} records that waited for it are due"
    sys.stdout.write(f"{escaped(detector)}: {said}\n")
    return 0


def _dsn() -> str:
    from anomaly import connections  # noqa: PLC0415  # importing Airflow takes seconds, and --dsn does not need it

    return connections.records_dsn()


def _migrate(dsn: str) -> int:
    applied = migrate(dsn)
    sys.stdout.writelines(f"applied {name}\n" for name in applied or ["nothing: the schema is up to date"])
    return 0


def _check_sql(dsn: str, folder: Path) -> int:
    with translating(), connector(dsn, Settings.from_environ(os.environ))() as connection:
        check_migrations(connection)
        faults = check_statements(connection, Statements(folder))
    sys.stdout.writelines(f"{name}.sql: {escaped(fault or 'ok')}\n" for name, fault in faults.items())
    return 1 if any(faults.values()) else 0


# In a plugins folder whose .airflowignore is lost, Airflow executes this file under the same name, but outside the package.
if __name__ == "__main__" and __package__ == "anomaly":
    sys.exit(main())
