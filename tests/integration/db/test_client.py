"""Statements by name, on a real server."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.db.statements import Statements
from anomaly.errors import DetectorAnswerInvalid
from tests.parts.record_builders import RecordsDb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = {
    "rows": "select n from generate_series(1, %(last)s::integer) as n where n >= %(first)s::integer and n <= %(last)s::integer",
    "untyped": "select 1 where %(one)s = 1",
    "ratio": "select 1 / %(by)s::integer",
}


@pytest.fixture
def db(database: str, tmp_path: Path) -> Iterator[RecordsDb]:
    for name, text in FILES.items():
        (tmp_path / f"{name}.sql").write_text(text)
    with RecordsDb(database, statements=Statements(tmp_path)) as db:
        yield db


@pytest.fixture
def shipped(database: str) -> Iterator[RecordsDb]:
    with RecordsDb(database) as db:
        yield db


def prepared(db: RecordsDb) -> list[str]:
    """Return the texts of the statements that the pool's first two connections have prepared."""
    with contextlib.ExitStack() as held:
        connections: list[Any] = [held.enter_context(contextlib.closing(db.pool.connect())).dbapi_connection for _ in range(2)]
        query = "select statement from pg_prepared_statements"
        return [text for connection in connections for (text,) in connection.execute(query, prepare=False)]


def test_execute_returns_the_number_of_rows_and_prepares_the_statement_at_once(db: RecordsDb) -> None:
    assert [db.database.execute("rows", {"first": first, "last": 7}) for first in (1, 3, 8)] == [7, 5, 0]
    assert len(prepared(db)) == 1


def test_rows_are_returned_by_column(db: RecordsDb) -> None:
    assert db.database.fetch_all("rows", {"first": 2, "last": 3}) == [{"n": 2}, {"n": 3}]
    assert db.database.fetch_one("rows", {"first": 2, "last": 3}) == {"n": 2}
    assert db.database.fetch_one("rows", {"first": 4, "last": 3}) is None
    assert prepared(db) == []


def test_a_prepared_statement_takes_values_of_other_types(db: RecordsDb) -> None:
    assert [db.database.execute("untyped", {"one": one}) for one in (1, 2, 70_000, Decimal(1), 1)] == [1, 0, 0, 1, 1]


def test_a_statement_works_again_after_it_has_failed(db: RecordsDb) -> None:
    assert db.database.execute("ratio", {"by": 1}) == 1
    with pytest.raises(DetectorAnswerInvalid, match="division by zero"):
        db.database.execute("ratio", {"by": 0})
    assert db.database.execute("ratio", {"by": 1}) == 1


def test_a_new_connection_prepares_its_statements_anew(db: RecordsDb) -> None:
    first = {"first": 1, "last": 2}
    assert db.database.execute("rows", first) == 2
    db.rows(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'anomaly' and datname = current_database()"
    )
    assert db.database.execute("rows", first) == 2
    assert len(prepared(db)) == 1


def test_a_commit_is_prepared_from_the_first_on(shipped: RecordsDb) -> None:
    for claim in shipped.claims(2):
        shipped.commit(claim)
    [text] = prepared(shipped)
    assert "insert into anomaly.ai_results" in text
