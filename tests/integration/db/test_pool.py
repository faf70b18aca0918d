"""The pool: bounded, checked, with a deadline for every call, on a real server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import errors
from psycopg.sql import SQL, Identifier
from sqlalchemy import exc as sqlalchemy_errors

from anomaly.db.errors import FOREIGN, translate
from anomaly.db.pool import connector, open_pool
from anomaly.db.stats import StatsStore
from anomaly.errors import AnomalyError, DatabaseUnavailable, DetectorAnswerInvalid, Misconfigured
from anomaly.settings import Settings
from tests.parts.record_builders import HOLDER, RecordsDb

if TYPE_CHECKING:
    from embedded.postgres import Postgres

OURS = "select pid, state_change from pg_stat_activity where datname = current_database() and application_name = 'anomaly' order by pid"


def pids(db: RecordsDb) -> list[int]:
    """Return the process ids of the pool's connections, as the server has them."""
    return [row["pid"] for row in db.rows(OURS)]


def setting(db: RecordsDb, name: str) -> str:
    with contextlib.closing(db.pool.connect()) as proxy:
        return str(driver(proxy).execute(f"show {name}").fetchone()[0])


def driver(proxy: Any) -> Any:
    return proxy.dbapi_connection


def test_two_connections_are_open_at_the_start(db: RecordsDb) -> None:
    assert len(pids(db)) == 2


def test_the_pool_never_opens_an_eleventh_connection(database: str) -> None:
    with RecordsDb(database, settings=Settings(db_call_deadline_s=1)) as db:
        held = [db.pool.connect() for _ in range(10)]
        assert len(pids(db)) == 10
        with pytest.raises(DatabaseUnavailable, match="QueuePool limit of size 10 overflow 0 reached"):
            db.store.claim_chunk(db.run(), began_at=db_time(db), origin="pending", map_index=0, try_number=1, lease_s=60)
        assert len(pids(db)) == 10
        for proxy in held:
            proxy.close()
        assert StatsStore(db.database).backlog().due == 0


def test_a_connection_that_cannot_be_configured_is_closed(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[psycopg.Connection[Any]] = []

    def refuse(connection: psycopg.Connection[Any], *, lent: bool) -> None:
        made.append(connection)
        raise errors.QueryCanceled(f"canceling statement due to statement timeout, lent={lent}")

    monkeypatch.setattr("anomaly.db.session.configure", refuse)
    with pytest.raises(AnomalyError, match="statement timeout"):
        open_pool(connector(database, Settings()), Settings())
    assert [connection.closed for connection in made] == [True]


def db_time(db: RecordsDb) -> Any:
    return db.rows("select now() as now")[0]["now"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("statement_timeout", "15s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "15s"),
        ("application_name", "anomaly"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ],
)
def test_every_session_has_its_limits(db: RecordsDb, name: str, value: str) -> None:
    assert setting(db, name) == value


def test_connections_are_in_autocommit_and_were_given_five_seconds_to_connect(db: RecordsDb) -> None:
    with contextlib.closing(db.pool.connect()) as proxy:
        assert driver(proxy).autocommit
        assert driver(proxy).info.get_parameters()["connect_timeout"] == "5"


def test_a_server_that_accepts_and_says_nothing_is_given_up_after_the_connect_timeout() -> None:
    settings = Settings(db_connect_timeout_s=1)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(DatabaseUnavailable):
        open_pool(connector(f"postgresql://app:secret@127.0.0.1:{mute.getsockname()[1]}/none", settings), settings)


def test_a_refused_login_is_misconfigured_from_the_start(postgres: Postgres) -> None:
    settings = Settings()
    with pytest.raises(Misconfigured, match="refuses the login"):
        open_pool(connector(postgres.dsn().replace(postgres.password, "wrong"), settings), settings)


def test_connections_that_the_server_closed_are_replaced_before_anyone_notices(db: RecordsDb) -> None:
    dead = pids(db)
    db.rows("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'anomaly' and datname = current_database()")
    db.until(lambda: pids(db) == [])
    assert StatsStore(db.database).backlog().due == 0
    assert db.waits == []
    assert not set(dead) & set(pids(db))


def test_an_idle_connection_is_checked_and_a_busy_one_is_not(db: RecordsDb) -> None:
    def handed_out() -> Any:
        with contextlib.closing(db.pool.connect()) as proxy:
            pid = driver(proxy).info.backend_pid
        return {row["pid"]: row["state_change"] for row in db.rows(OURS)}[pid]

    first = handed_out()
    db.now_s += db.settings.db_idle_check_s
    assert handed_out() == first
    db.now_s += db.settings.db_idle_check_s + 0.1
    assert handed_out() > first


def test_an_idle_connection_that_died_in_silence_is_replaced(db: RecordsDb) -> None:
    with contextlib.closing(db.pool.connect()) as proxy:
        dead = driver(proxy)
    db.now_s += db.settings.db_idle_check_s + 0.1
    with socket.socket(fileno=dead.fileno()) as line:
        line.shutdown(socket.SHUT_WR)
        line.detach()
    assert StatsStore(db.database).backlog().due == 0
    assert db.waits == []


def test_a_connection_on_which_a_statement_failed_is_not_used_again(db: RecordsDb) -> None:
    before = pids(db)
    [claim] = db.claims()
    db.do("alter table anomaly.records rename column last_error to lost_error")
    with pytest.raises(Misconfigured, match=r'column "last_error" of relation "records" does not exist.*run bin/anomaly migrate'):
        db.commit(claim)
    db.until(lambda: len(set(pids(db)) & set(before)) == 1)


class Stopped(BaseException):
    """Raised by a signal handler, as on shutdown."""


def test_a_connection_whose_call_was_interrupted_is_not_used_again(db: RecordsDb) -> None:
    [claim] = db.claims()

    def stop(*_: object) -> None:
        raise Stopped

    def stop_once_blocked() -> None:
        db.await_blocked()
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with db.locked(claim.record_id):
            db.meanwhile(stop_once_blocked)
            with pytest.raises(Stopped):
                db.store.release_chunks(db.run(), HOLDER)
    finally:
        signal.signal(signal.SIGUSR1, before)
    for _ in range(3):
        assert db.store.unopened_chunks(db.batch_id()) == []
    assert db.waits == []


def test_an_overdue_call_is_shut_and_its_connection_replaced(db: RecordsDb) -> None:
    [claim] = db.claims()
    deadline_s = db.settings.db_call_deadline_s
    with db.locked(claim.record_id):
        release = db.meanwhile(lambda: db.store.release_chunks(db.run(), HOLDER))
        db.await_blocked()
        db.now_s += deadline_s
        assert db.store.shut_overdue_calls() == 0
        db.now_s += 0.1
        assert db.store.shut_overdue_calls() == 1
        db.await_blocked(2)
    release.result(timeout=10)
    assert len(db.waits) == 1
    assert db.store.shut_overdue_calls() == 0
    assert db.events(claim.record_id) == ["released"]


def test_repeats_end_and_wait_longer_each_time(db: RecordsDb, postgres: Postgres) -> None:
    """Here while the server lets nobody in for now."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(SQL("alter database {} allow_connections false").format(Identifier(db.sql.info.dbname)))
    db.rows("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'anomaly' and datname = current_database()")
    with pytest.raises(DatabaseUnavailable, match="not currently accepting connections"):
        StatsStore(db.database).backlog()
    assert db.waits == [0.1, 0.2]


SPECIFIC: list[tuple[Exception, type[AnomalyError]]] = [
    (errors.UndefinedTable("x"), Misconfigured),
    (errors.UndefinedColumn("x"), Misconfigured),
    (errors.InvalidSchemaName("x"), Misconfigured),
    (errors.SyntaxError("x"), Misconfigured),
    (errors.InsufficientPrivilege("x"), Misconfigured),
    (errors.InvalidPassword("x"), Misconfigured),
    (psycopg.OperationalError('FATAL:  password authentication failed for user "app"'), Misconfigured),
    (psycopg.OperationalError('FATAL:  database "none" does not exist'), Misconfigured),
    (psycopg.ProgrammingError('missing "=" after "x"'), Misconfigured),
    (psycopg.OperationalError("server does not support SSL, but SSL was required"), Misconfigured),
    (psycopg.OperationalError("SSL error: certificate verify failed"), Misconfigured),
    (errors.UntranslatableCharacter("x"), DetectorAnswerInvalid),
    (errors.DeadlockDetected("x"), DatabaseUnavailable),
    (errors.LockNotAvailable("x"), DatabaseUnavailable),
    (errors.QueryCanceled("x"), DatabaseUnavailable),
    (errors.AdminShutdown("x"), DatabaseUnavailable),
    (errors.ReadOnlySqlTransaction("x"), Misconfigured),
    (psycopg.OperationalError("connection refused"), DatabaseUnavailable),
    (sqlalchemy_errors.TimeoutError("x"), DatabaseUnavailable),
]


@pytest.mark.parametrize(("foreign", "ours"), SPECIFIC, ids=lambda value: getattr(value, "__name__", type(value).__name__))
def test_a_foreign_error_has_one_word_of_ours(foreign: Exception, ours: type[AnomalyError]) -> None:
    assert type(translate(foreign)) is ours


RAISED_BY_ENGINES = sqlalchemy_errors.StatementError
"""The project uses SQLAlchemy's pool, and no engine."""


def test_no_error_of_psycopg_or_sqlalchemy_is_left_untranslated() -> None:
    foreign = [kind for module in (errors, sqlalchemy_errors) for kind in vars(module).values() if isinstance(kind, type)]
    kinds = [kind for kind in foreign if issubclass(kind, FOREIGN) and not issubclass(kind, RAISED_BY_ENGINES)]
    assert len(kinds) > 250
    for kind in kinds:
        assert isinstance(translate(kind.__new__(kind)), AnomalyError)
