"""Statements past psycopg's cursor, on a real server."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from anomaly.db import prepared
from anomaly.db.prepared import Prepared
from tests.parts.record_builders import Bench

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = "select n from generate_series(1, %(most)s) as n where n >= %(least)s and n <= %(most)s"
SAME = """select 1 where row(%(text)s::text, %(number)s::float8, %(big)s::int8, %(none)s::text, %(yes)s::bool, %(at)s::timestamptz,
                 %(id)s::uuid, %(json)s::jsonb, %(money)s::numeric, %(list)s::int4[])
    is not distinct from row('é\\', 0.25::float8, 5000000000::int8, null::text, true, '2026-01-02 03:04:05+00'::timestamptz,
                 '00000000-0000-0000-0000-000000000001'::uuid, '{"a": [1, null]}'::jsonb, 0.10::numeric, array[1, 2])"""


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def bench(database: str) -> Iterator[Bench]:
    with Bench(database) as bench:
        yield bench


def names(connection: psycopg.Connection[Any]) -> list[str]:
    """Of the statements that the connection has prepared."""
    return [name for (name,) in connection.execute("select name from pg_prepared_statements order by name", prepare=False)]


def test_it_says_how_many_rows_there_are(connection: psycopg.Connection[Any]) -> None:
    statements = Prepared(connection)
    assert [statements.run("rows", ROWS, {"least": least, "most": 7}) for least in (1, 3, 8)] == [7, 5, 0]
    assert names(connection) == ["rows_0"]


def test_values_arrive_as_psycopg_gives_them(connection: psycopg.Connection[Any]) -> None:
    params = {
        "text": "é\\",
        "number": 0.25,
        "big": 5_000_000_000,
        "none": None,
        "yes": True,
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "id": UUID(int=1),
        "json": Jsonb({"a": [1, None]}),
        "money": Decimal("0.10"),
        "list": [1, 2],
    }
    assert Prepared(connection).run("same", SAME, params) == 1
    assert Prepared(connection).run("other", SAME, params | {"yes": False}) == 0


def test_a_statement_is_prepared_for_each_combination_of_types(connection: psycopg.Connection[Any]) -> None:
    statements = Prepared(connection)
    text = "select 1 where %(one)s = 1"
    assert [statements.run("one", text, {"one": one}) for one in (1, 2, 70_000, Decimal(1), 1)] == [1, 0, 0, 1, 1]
    assert names(connection) == ["one_0", "one_1", "one_2"]


def test_it_begins_anew_when_too_many_are_prepared(connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "MOST", 2)
    connection.execute("select 'by a cursor'", prepare=True)
    statements = Prepared(connection)
    assert [statements.run("some", f"select 1 where %(one)s = {one}", {"one": 1}) for one in (1, 2, 1, 3, 1)] == [1, 0, 1, 0, 1]
    assert names(connection) == ["_pg3_0", "some_0", "some_1"]
    assert connection.execute("select 'by a cursor'", prepare=True).fetchone() == ("by a cursor",)


def test_what_fails_is_the_error_of_psycopg_and_the_next_one_works(connection: psycopg.Connection[Any]) -> None:
    statements = Prepared(connection)
    with pytest.raises(errors.DivisionByZero, match="division by zero") as raised:
        statements.run("ratio", "select 1 / %(by)s::integer", {"by": 0})
    assert raised.value.sqlstate == "22012"
    with pytest.raises(errors.UndefinedTable, match='relation "none" does not exist'):
        statements.run("none", "select * from none where n = %(n)s", {"n": 1})
    assert statements.run("ratio", "select 1 / %(by)s::integer", {"by": 1}) == 1
    assert names(connection) == ["ratio_0"]


def test_a_connection_that_is_gone_is_an_operational_error(connection: psycopg.Connection[Any], database: str) -> None:
    statements = Prepared(connection)
    assert statements.run("one", "select 1", {}) == 1
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError, match="connection"):
            statements.run("one", "select 1", {})
    assert connection.closed


def prepared_in(bench: Bench) -> set[str]:
    """Names of what the pool's connections have prepared."""
    with contextlib.ExitStack() as held:
        proxies = [held.enter_context(contextlib.closing(bench.pool.connect())) for _ in range(2)]
        found: list[Any] = [proxy.dbapi_connection for proxy in proxies]
        return {name for connection in found for name in names(connection)}


def test_a_commit_is_prepared_from_the_first_on(bench: Bench) -> None:
    for claim in bench.claims(2):
        bench.commit(claim)
    assert prepared_in(bench) == {"commit_verdict_0"}
