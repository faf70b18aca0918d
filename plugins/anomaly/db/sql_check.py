"""Checks edited SQL files against a real database without executing them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import pq

from anomaly.db.contracts import CONTRACTS, SAMPLES
from anomaly.db.source_sample import COMPOSED, PLANNED, composed
from anomaly.db.source_sql import WRITTEN
from anomaly.db.statements import PARAMETER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.db.contracts import Contract
    from anomaly.db.statements import Statements

_COMMENT = re.compile(r"--[^\n]*")


def check_statements(connection: psycopg.Connection[Any], statements: Statements) -> dict[str, str]:
    """Return the faults of each statement in one line, which is empty if there are none.

    The connection has to be in autocommit. Each statement is planned in a transaction that is rolled back.
    """
    names = sorted({*CONTRACTS, *statements})
    found = {name: "; ".join(_faults(connection, statements, name)) for name in names}
    if any(found[name] for name in WRITTEN):
        return found  # of these, statements on sources are composed
    templates = sorted([*PLANNED, *COMPOSED])
    return found | {f"source/{name}": "; ".join(_template_faults(connection, statements, name)) for name in templates}


def _faults(connection: psycopg.Connection[Any], statements: Statements, name: str) -> Iterator[str]:
    if name not in statements:
        yield "the file is missing"
        return
    if name not in CONTRACTS:
        yield "the project runs no statement of this name"
        return
    yield from _against(connection, CONTRACTS[name], statements[name])


def _template_faults(connection: psycopg.Connection[Any], statements: Statements, name: str) -> Iterator[str]:
    try:
        text: Any = composed(name, statements)
    except OSError:
        yield "the file is missing"
    except (LookupError, ValueError) as exc:
        yield f"a placeholder in braces is none that the project fills: {exc}"
    else:
        if name in PLANNED:
            yield from _against(connection, PLANNED[name], text)


def _against(connection: psycopg.Connection[Any], contract: Contract, statement: LiteralString) -> Iterator[str]:
    """Yield what a statement lacks of what its contract demands."""
    text = _COMMENT.sub("", statement)
    params, wanted = set(PARAMETER.findall(text)), set(contract.params.split())
    yield from (f"the project passes no parameter {extra}" for extra in sorted(params - wanted))
    yield from (f"the parameter {lost} is missing" for lost in sorted(wanted - params))
    folded = " ".join(text.lower().split())
    yield from (f"{part!r} is missing, without which the claims are not safe" for part in contract.parts if part not in folded)
    if params <= wanted:
        yield from _planned(connection, statement, set(contract.columns.split()))


def _planned(connection: psycopg.Connection[Any], text: LiteralString, wanted: set[str]) -> Iterator[str]:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("explain " + text, SAMPLES)
            columns = _columns(connection, text)
    except psycopg.Error as exc:
        yield (exc.diag.message_primary or str(exc)).splitlines()[0]
        return
    yield from (f"the column {lost} is missing from what it returns" for lost in sorted(wanted - columns))


def _columns(connection: psycopg.Connection[Any], text: LiteralString) -> set[str]:
    """Return the names of a statement's columns, which the server describes without running it."""
    with psycopg.ClientCursor(connection) as cursor:
        query = cursor.mogrify(text, SAMPLES).encode()
    for result in (connection.pgconn.prepare(b"", query), connection.pgconn.describe_prepared(b"")):
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise psycopg.ProgrammingError(result.error_message.decode(errors="replace"))
    return {(result.fname(column) or b"").decode() for column in range(result.nfields)}
