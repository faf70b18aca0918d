"""Statements that run for each record, past psycopg's cursor.

A cursor takes 0.17 ms of processor time a statement, four times what libpq's own call does: it looks at each text whether it should be
prepared by now, waits in Python, and is ready for rows of any kind. Here the caller knows that it should, and asks for no row's content.
Values are adapted by psycopg, and what fails is its error.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

from anomaly.db.statements import PARAMETER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg.pq.abc import PGconn, PGresult

MOST = 50
"""As in psycopg a statement is prepared for each combination of types that its parameters had; with so many it begins anew."""


class Prepared:
    """The statements of one connection, each prepared in a round trip of its own when it is first run. For one thread at a time."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._pgconn: PGconn = connection.pgconn
        self._encoding = connection.info.encoding
        self._values = Transformer(connection)
        self._names: dict[tuple[str, tuple[int, ...]], bytes] = {}

    def run(self, name: str, text: str, params: Mapping[str, Any]) -> int:
        """How many rows the statement of that name and text returns. A signal that comes meanwhile waits until it has.

        Raises:
            psycopg.Error: it failed, or the connection did.
        """
        names = _numbered(text)[1]
        values = self._values.dump_sequence([params[each] for each in names], [PyFormat.AUTO] * len(names))
        types = self._values.types or ()
        prepared = self._names.get((text, types)) or self._prepared(name, text, types)
        given: Any = values  # its type forgets that a value may be null
        return self._checked(self._pgconn.exec_prepared(prepared, given, self._values.formats)).ntuples

    def _prepared(self, name: str, text: str, types: tuple[int, ...]) -> bytes:
        if len(self._names) >= MOST:
            self._checked(self._pgconn.exec_(b"; ".join(b"deallocate " + each for each in self._names.values())))  # the cursors' own stay
            self._names.clear()
        prepared = f"{name}_{len(self._names)}".encode()
        self._checked(self._pgconn.prepare(prepared, _numbered(text)[0].encode(self._encoding), types))
        self._names[text, types] = prepared
        return prepared

    def _checked(self, result: PGresult) -> PGresult:
        if result.status not in {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}:
            error = error_from_result(result, encoding=self._encoding)
            raise error if error.sqlstate else psycopg.OperationalError(str(error))  # by libpq itself, and not by the server
        return result


@cache
def _numbered(text: str) -> tuple[str, tuple[str, ...]]:
    """The text with libpq's $1, $2, … and the names of the parameters in this order."""
    numbers: dict[str, int] = {}
    return PARAMETER.sub(lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}", text), tuple(numbers)
