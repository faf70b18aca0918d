"""The project's own commands.

`migrate` brings the database's schema up to date, `check-sql` checks edited SQL files against it, `doctor` looks whether everything that
a run needs is there and works.
"""

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
from anomaly.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: 0 when all is well, 1 when something is wrong, 2 and one sentence when it could not be done."""
    asked = _parser().parse_args(arguments)
    if asked.command == "doctor":
        return _examine(asked.detector)
    try:
        dsn = asked.dsn or _dsn()
        return _check_sql(dsn, asked.folder) if asked.command == "check-sql" else _migrate(dsn)
    except (DatabaseUnavailable, Misconfigured) as exc:
        sys.stderr.write(f"{exc}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin/anomaly", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (("migrate", "bring the schema up to date"), ("check-sql", "check the SQL files against the database")):
        command = commands.add_parser(name, help=about)
        command.add_argument("--dsn", help="the records database as a URI; without it, Airflow's connection anomaly_db")
    command.add_argument("--folder", type=Path, default=FOLDER, help="the files to check (default: include/sql)")
    doctor = commands.add_parser("doctor", help="look whether everything that a run needs is there and works")
    doctor.add_argument("--detector", default="anomaly_detector", help="the connection of the detector to ask (default: anomaly_detector)")
    return parser


def _examine(detector: str) -> int:
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "CRITICAL"  # Airflow logs to stdout, among our lines
    from anomaly.maintenance.doctor import Doctor  # noqa: PLC0415  # as below

    bad = 0
    for finding in Doctor(os.environ, detector=detector).findings():
        sys.stdout.write(f"{finding}\n")
        sys.stdout.flush()
        bad += bool(finding.to_do)
    return 1 if bad else 0


def _dsn() -> str:
    from anomaly import connections  # noqa: PLC0415  # Airflow takes seconds, and --dsn needs none of it

    return connections.records_dsn()


def _migrate(dsn: str) -> int:
    applied = migrate(dsn)
    sys.stdout.writelines(f"applied {name}\n" for name in applied or ["nothing, for the schema is up to date"])
    return 0


def _check_sql(dsn: str, folder: Path) -> int:
    with translating(), connector(dsn, Settings.from_environ(os.environ))() as connection:
        check_migrations(connection)
        faults = check_statements(connection, Statements(folder))
    sys.stdout.writelines(f"{name}.sql: {fault or 'ok'}\n" for name, fault in faults.items())
    return 1 if any(faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
