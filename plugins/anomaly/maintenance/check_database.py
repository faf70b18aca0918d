"""Checks the records database: login, session, schema, SQL files, connections, clock, and verdicts of earlier versions."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from anomaly import connections
from anomaly.db import schema, session
from anomaly.db.encoding import UNICODE
from anomaly.db.errors import translating
from anomaly.db.pool import connector
from anomaly.db.sql_check import check_statements
from anomaly.db.statements import Statements
from anomaly.maintenance.check_sources import check_sources
from anomaly.maintenance.findings import Finding, clock, guarded
from anomaly.program import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from anomaly.settings import Settings

FILES_NAMED = 3
"""Most SQL files that one finding names."""


def check_database(settings: Settings, folder: Path) -> Iterator[Finding]:
    """Check login and session, then migrations and the SQL files in *folder*. Nothing else is worth a check if nothing can be written."""
    connect = connector(connections.records_dsn(), settings)
    with translating(), connect() as connection:
        at = connection.info
        yield Finding(f"anomaly_db: {at.user} at {at.host}:{at.port}/{at.dbname}")
        if sentence := session.why_read_only(connection):
            yield Finding("anomaly_db", sentence)
            return
        lent = not session.is_direct(connection) and session.lends_sessions(connect)
        session.configure(connection, lent=lent)
        yield from _check_session(connection, lent=lent)
        yield from guarded("schema", lambda: _check_schema(schema.applied_migrations(connection)))
        yield from guarded("SQL files", lambda: _check_statements(check_statements(connection, Statements(folder))))
    yield from guarded("sources", lambda: check_sources(settings))
    yield from guarded("verdicts", lambda: _check_verdicts(settings))


def _check_session(connection: Any, *, lent: bool) -> Iterator[Finding]:
    if (encoding := session.server_encoding(connection)) != UNICODE:
        yield Finding("anomaly_db", note=f"the encoding {encoding} lacks characters, which are stored as ?; UTF8 has all of them")
    if not lent:
        return
    yield Finding("anomaly_db: a pooler lends sessions for a transaction, so statements are not prepared, and sessions set no timeouts")
    for name, value in session.unfit_defaults(connection).items():
        fix = f"alter role {connection.info.user} set {name} = '{value}'"
        yield Finding("anomaly_db", f"runs need another {name}, which they cannot set behind this pooler: {fix}")


def _check_schema(applied: set[str]) -> Iterator[Finding]:
    ours = schema.known_migrations()
    if missing := ours - applied:
        yield Finding("schema", f"the records database lacks {', '.join(sorted(missing))}: run {PROGRAM} migrate")
    else:
        newer = sorted(applied - ours)
        more = f", and {', '.join(newer)} of a newer version" if newer else ""
        yield Finding(f"schema: all {len(ours)} migrations are applied{more}")


def _check_statements(faults: Mapping[str, str]) -> Iterator[Finding]:
    files = defaultdict(list)
    for name, fault in faults.items():
        files[fault].append(f"{name}.sql")
    if valid := files.pop("", None):
        yield Finding(f"SQL files: {len(valid)} match the schema and the privileges of the login")
    for fault, names in files.items():
        further = f" and {len(names) - FILES_NAMED} more" if len(names) > FILES_NAMED else ""
        yield Finding("SQL files", f"{', '.join(names[:FILES_NAMED])}{further}: {fault}; {_fix(fault)}")


def _fix(fault: str) -> str:
    return "grant it to the login of anomaly_db" if "permission denied" in fault else f"run {PROGRAM} migrate, or correct the files"


def _check_verdicts(settings: Settings) -> Iterator[Finding]:
    with connections.maintenance_store(settings) as store:
        suspects = store.suspect_verdicts()
    if suspects:
        where = "docs/operations.md, Verdicts of the wrong image, has a query that lists them"
        yield Finding("verdicts", note=f"{suspects} came back at once and repeat the verdict on another image: {where}")
    else:
        yield Finding("verdicts: none repeats that on another image and came back at once")


def check_pool(settings: Settings, *, now: Callable[[], datetime]) -> Iterator[Finding]:
    """Open a pool, and compare the connections that tasks may need with those that the server accepts."""
    with connections.maintenance_store(settings) as store:
        began = now()
        server = store.server()
        ended = now()
    each, accepted = settings.db_pool_max, server.connections
    tasks = min(connections.tasks_at_once(), settings.tasks_max)
    if each * tasks > accepted:
        yield Finding(
            "pool",
            f"{tasks} tasks with {each} connections each may need {each * tasks}, and the server accepts {accepted}: lower "
            "ANOMALY_DB_POOL_MAX or ANOMALY_TASKS_MAX, or raise max_connections or the connection limit of the login or the database",
        )
    else:
        yield Finding(f"pool: Postgres {server.version} accepts {accepted} connections, enough for {tasks} tasks with {each} each")
    yield clock("the database", server.now, began, ended)
