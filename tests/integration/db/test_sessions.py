"""Sessions fit the statements, whatever the database, the role or a pooler sets: with real databases, roles and PgBouncer."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from anomaly.db.pool import connector, open_pool
from anomaly.db.schema import migrate
from anomaly.db.session import SESSION_SETTINGS, lends_sessions
from anomaly.errors import DatabaseUnavailable, Misconfigured
from anomaly.settings import Settings
from tests.parts.pgbouncer import PgBouncer
from tests.parts.record_builders import RecordsDb, an_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedded.postgres import Postgres

NAMES = itertools.count(1)
ROLES = itertools.count(1)


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """The DSN of the test's database, for a login of its own."""
    name = f"role_{next(ROLES)}"
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(SQL("create role {} login password 'role' superuser").format(Identifier(name)))
        yield make_conninfo(database, user=name, password="role")  # noqa: S106  # of this test
        owner.execute(SQL("drop role {}").format(Identifier(name)))


def set_default(database: str, setting: str, value: str, *, role: str = "") -> None:
    """Set a default of the database, or of the role."""
    with psycopg.connect(database, autocommit=True) as owner:
        of = SQL("role {}").format(Identifier(role)) if role else SQL("database {}").format(Identifier(owner.info.dbname))
        owner.execute(SQL("alter {} set {} = {}").format(of, Identifier(setting), value))


def user_of(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        return connection.info.user


def worked(db: RecordsDb) -> None:
    """Commit, defer, quarantine and give back a record each, as a run does."""
    done, deferred, quarantined, given_back = db.claims(4)
    error = DatabaseUnavailable("an error")
    db.commit(done)
    assert db.store.defer(deferred, error=error, timings={"fetch": 1.5}) == "pending"
    assert db.store.quarantine(quarantined, error=error, timings={}) == "quarantined"
    assert db.store.give_back(given_back, error=error, not_before_s=60) == "pending"
    db.store.report(db.batch_id())
    assert db.statuses() == {"done": 1, "pending": 2, "quarantined": 1}
    [due] = db.rows(
        "select not_before - now() > interval '30 s' as later from anomaly.records where last_error_code is not null and id = %(id)s",
        id=given_back.record_id,
    )
    assert due["later"]


# ── defaults of the database and of the role

DEFAULTS = [
    ("DateStyle", "SQL, DMY"),
    ("DateStyle", "German"),
    ("DateStyle", "Postgres, MDY"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "Pacific/Chatham"),
    ("extra_float_digits", "-15"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("statement_timeout", "1s"),
    ("search_path", ""),
    ("standard_conforming_strings", "off"),
    ("bytea_output", "escape"),
    ("array_nulls", "off"),
    ("client_encoding", "LATIN1"),
    ("lc_messages", "C"),
    ("plan_cache_mode", "force_generic_plan"),
]


@pytest.mark.parametrize(("setting", "value"), DEFAULTS)
@pytest.mark.parametrize("of_the_role", [False, True], ids=["database", "role"])
def test_records_are_worked_whatever_the_defaults_are(database: str, role: str, setting: str, value: str, *, of_the_role: bool) -> None:
    set_default(database, setting, value, role=user_of(role) if of_the_role else "")
    with RecordsDb(role) as db:
        began = db.rows("select clock_timestamp() as now")
        worked(db)
        assert abs((db.store.current_time() - began[0]["now"]).total_seconds()) < 60


@pytest.mark.parametrize(("setting", "value"), DEFAULTS)
def test_migrations_are_applied_whatever_the_defaults_are(postgres: Postgres, setting: str, value: str) -> None:
    name = f"defaults_{next(NAMES)}"
    postgres.ensure_database(name)
    dsn = postgres.dsn(name)
    set_default(dsn, setting, value)
    assert len(migrate(dsn)) > 10
    assert migrate(dsn) == []
    with RecordsDb(dsn) as db:
        worked(db)
    postgres.drop_database(name)


def test_the_clock_of_the_quota_keeps_its_digits(database: str) -> None:
    set_default(database, "extra_float_digits", "-15")
    with RecordsDb(database) as db, db.pool.cursor() as cursor:
        [row] = cursor.execute("select 1234567890.5::double precision as seconds").fetchall()
    assert row["seconds"] == 1234567890.5


@pytest.mark.parametrize("of_the_role", [False, True], ids=["database", "role"])
def test_a_database_that_is_read_only_is_named_in_one_sentence(database: str, role: str, *, of_the_role: bool) -> None:
    with RecordsDb(role) as db:
        db.add(1)
    set_default(database, "default_transaction_read_only", "on", role=user_of(role) if of_the_role else "")
    with RecordsDb(role) as db, pytest.raises(Misconfigured, match="the records database is read-only") as refused:
        db.store.begin_batch(db.run())
    assert "name the primary server, or a login that may write" in str(refused.value)
    with pytest.raises(Misconfigured, match="read-only"):
        migrate(make_conninfo(role, options="-c search_path=public"))


# ── encodings


@pytest.fixture(params=["SQL_ASCII", "LATIN1", "WIN1252", "EUC_JP", "LATIN9", "KOI8R"])
def encoded(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[tuple[str, str]]:
    """The DSN of a migrated database in an encoding, and the encoding."""
    name = f"encoded_{next(NAMES)}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        made = SQL("create database {} template template0 encoding {} lc_collate 'C' lc_ctype 'C'")
        admin.execute(made.format(Identifier(name), request.param))
    migrate(postgres.dsn(name))
    yield postgres.dsn(name), request.param
    postgres.drop_database(name)


STORED = {
    "SQL_ASCII": "größer: ≥ 2 mm 検査",
    "LATIN1": "größer: ? 2 mm ??",
    "WIN1252": "größer: ? 2 mm ??",
    "EUC_JP": "größer: ? 2 mm 検査",
    "LATIN9": "größer: ? 2 mm ??",
    "KOI8R": "gr??er: ≥ 2 mm ??",
}
TEXT = "größer: ≥ 2 mm 検査"


def test_errors_and_verdicts_are_stored_with_the_characters_that_the_database_has(encoded: tuple[str, str]) -> None:
    dsn, encoding = encoded
    with RecordsDb(dsn) as db:
        done, deferred = db.claims(2)
        answer = an_answer()
        texts: dict[str, Any] = {"label": TEXT, "reason": TEXT, "regions": ({"name": TEXT},), "usage": {TEXT: [TEXT]}, "detector": TEXT}
        db.commit(done, replace(answer, verdict=replace(answer.verdict, **texts)))
        db.store.defer(deferred, error=DatabaseUnavailable(TEXT), timings={})
        [found] = db.database.fetch_all("run_report", {"batch_id": db.batch_id()})
        assert found["statuses"] == {"done": 1, "pending": 1}
        with db.pool.cursor() as cursor:
            [result] = cursor.execute("select label, reason, detector, regions, usage from anomaly.ai_results").fetchall()
            [record] = cursor.execute("select last_error from anomaly.records where last_error is not null").fetchall()
    stored = STORED[encoding]
    assert (result["label"], result["reason"], result["detector"], record["last_error"]) == (stored,) * 4
    assert result["regions"] == [{"name": stored}]
    assert result["usage"] == {stored: [stored]}
    assert db.waits == []


def test_a_run_of_records_is_worked_in_every_encoding(encoded: tuple[str, str]) -> None:
    with RecordsDb(encoded[0]) as db:
        worked(db)
    assert migrate(encoded[0]) == []


def test_a_run_whose_id_has_characters_that_the_database_lacks_finds_what_it_wrote(encoded: tuple[str, str]) -> None:
    with RecordsDb(encoded[0]) as db:
        run = db.run(TEXT)
        db.add(2)
        first, second = db.open(db.claim(run), run=run)
        db.commit(first)
        assert db.store.report(run.batch_id).statuses == {"done": 1, "claimed": 1}
        db.store.give_back(second, error=DatabaseUnavailable(TEXT), not_before_s=1)
        assert db.store.begin_batch(run)
        db.store.end_batch(run.batch_id)


@pytest.mark.parametrize("encoded", ["SQL_ASCII"], indirect=True)
def test_bytes_that_are_no_text_concern_their_record_alone(encoded: tuple[str, str]) -> None:
    with RecordsDb(encoded[0]) as db:
        first, second = db.add(2)
        db.do("update anomaly.records set image_url = convert_from('\\xe9'::bytea, 'SQL_ASCII') where id = %(id)s", id=first)
        claims = db.open(db.claim())
    assert {claim.record_id: claim.image_url for claim in claims}[first] == "\ufffd"
    assert {claim.record_id for claim in claims} == {first, second}


# ── poolers


@pytest.fixture(scope="module", params=["session", "transaction", "statement"])
def bouncer(request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    with PgBouncer(tmp_path_factory.mktemp("pgbouncer"), postgres, mode=request.param) as pooler:
        yield pooler


def through(pooler: PgBouncer, database: str) -> str:
    with psycopg.connect(database) as connection:
        return pooler.dsn(connection.info.dbname)


def test_records_are_worked_through_a_pooler_in_every_mode(bouncer: PgBouncer, database: str) -> None:
    with RecordsDb(through(bouncer, database)) as db:
        db.sql.prepare_threshold = None
        worked(db)
        for _ in range(12):  # psycopg prepares a statement when it runs for the sixth time
            db.meanwhile(db.store.current_time).result(timeout=10)
            assert db.store.current_time()
            [claim] = db.claims(1)
            db.commit(claim)
    assert db.waits == []


def test_nothing_of_ours_is_left_in_a_session_of_others(bouncer: PgBouncer, database: str) -> None:
    with RecordsDb(through(bouncer, database)) as db:
        db.sql.prepare_threshold = None
        worked(db)
    with psycopg.connect(through(bouncer, database), autocommit=True, prepare_threshold=None) as other:
        for name in SESSION_SETTINGS:
            [(source,)] = other.execute("select source from pg_settings where name = %s", [name]).fetchall()
            assert source == "default", name
        assert other.execute("select count(*) from pg_prepared_statements").fetchone() == (0,)


def test_the_mode_is_found_out_with_one_session_and_with_many(postgres: Postgres, database: str, tmp_path: Path) -> None:
    options = {"default_pool_size": 1, "server_round_robin": 0}, {"default_pool_size": 20, "server_round_robin": 1}
    for number, each in enumerate(options):
        folder = tmp_path / str(number)
        folder.mkdir()
        with PgBouncer(folder, postgres, mode="transaction", **each) as pooler:
            connect = connector(through(pooler, database), Settings())
            with contextlib.ExitStack() as opened:
                for _ in range(each["default_pool_size"] // 5):
                    opened.enter_context(connect()).execute("select 1")
                assert lends_sessions(connect)


def test_a_direct_connection_lends_nothing(database: str) -> None:
    assert not lends_sessions(connector(database, Settings()))


def test_migrations_need_a_session_of_their_own(postgres: Postgres, tmp_path: Path) -> None:
    name = f"pooled_{next(NAMES)}"
    postgres.ensure_database(name)
    for mode in ("transaction", "statement"):
        refused = pytest.raises(Misconfigured, match=r"behind a pooler that lends sessions.*--dsn")
        with PgBouncer(tmp_path, postgres, mode=mode) as pooler, refused:
            migrate(pooler.dsn(name))
    with PgBouncer(tmp_path, postgres, mode="session") as pooler:
        assert len(migrate(pooler.dsn(name))) > 10
    with PgBouncer(tmp_path, postgres, mode="transaction") as pooler:
        assert migrate(pooler.dsn(name)) == []
    postgres.drop_database(name)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dbname": "not_there"}, "does not exist"),
        ({"user": "nobody_there"}, "refuses the login"),
        ({"password": "wrong"}, "authentication failed"),
        ({"options": "-c search_path=public"}, "unsupported startup parameter"),
    ],
)
def test_a_refusal_of_the_pooler_is_a_wrong_setting(bouncer: PgBouncer, change: dict[str, Any], sentence: str) -> None:
    dsn = make_conninfo(bouncer.dsn("postgres"), **change)
    with pytest.raises(Misconfigured, match=sentence):
        open_pool(connector(dsn, Settings()), Settings())
