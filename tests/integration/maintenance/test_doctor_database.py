"""The doctor and the records database: poolers, standbys, encodings, defaults, tokens, and verdicts that may be wrong."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import botocore.auth
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from anomaly.commands import main
from anomaly.db.schema import migrate
from anomaly.db.session import SESSION_SETTINGS
from anomaly.errors import Misconfigured
from anomaly.pipeline import runs
from embedded.postgres import Postgres
from tests.parts.fakes import FakeArchive
from tests.parts.pgbouncer import PgBouncer
from tests.parts.record_builders import RecordsDb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.doctor_patient import Patient

NAMES = itertools.count(1)
LENT = "ok  anomaly_db: a pooler lends sessions for a transaction, so statements are not prepared, and sessions set no timeouts"
RESULT = """
    insert into anomaly.ai_results (record_id, token, detector, config, score, is_anomaly, image_sha256, image_key, answer_key, latency_ms,
                                    dag_id, run_id, map_index, try_number, created_at)
    values (%(id)s, %(token)s, %(name)s, %(config)s, %(score)s, true, %(image)s, 'i', 'a', %(latency)s, 'dag', 'run', 0, 1,
            now() - interval '1 hour' + %(id)s * interval '1 s')
"""


@pytest.fixture
def login(database: str) -> Iterator[str]:
    """The name of a superuser of the test, with the password `login`."""
    name = f"login_{next(NAMES)}"
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(SQL("create role {} login password 'login' superuser").format(Identifier(name)))
        yield name
        owner.execute(SQL("drop role {}").format(Identifier(name)))


def as_login(database: str, login: str) -> str:
    return make_conninfo(database, user=login, password="login")  # noqa: S106  # of this test


def alter(database: str, what: str, name: str, change: str) -> None:
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(SQL("alter {} {} {}").format(SQL(what), Identifier(name), SQL(change)))


def name_of(database: str) -> str:
    return str(conninfo_to_dict(database)["dbname"])


# ── poolers


def test_a_pooler_in_transaction_mode_is_named_and_everything_works(patient: Patient, postgres: Postgres, tmp_path: Path) -> None:
    with PgBouncer(tmp_path, postgres, mode="transaction") as pooler:
        patient.set_database(pooler.dsn(name_of(patient.database)))
        said = patient.said()
    assert LENT in said
    assert [line for line in said if not line.startswith("ok")] == []


def test_a_pooler_in_session_mode_makes_no_difference(patient: Patient, postgres: Postgres, tmp_path: Path) -> None:
    with PgBouncer(tmp_path, postgres, mode="session") as pooler:
        patient.set_database(pooler.dsn(name_of(patient.database)))
        said = patient.said()
    assert [line for line in said if not line.startswith("ok") or "pooler" in line] == []


@pytest.mark.parametrize(
    ("setting", "value"), [("default_transaction_isolation", "serializable"), ("extra_float_digits", "-3")], ids=["isolation", "digits"]
)
def test_a_default_that_matters_behind_a_pooler_is_named_with_the_statement_that_corrects_it(
    patient: Patient, postgres: Postgres, tmp_path: Path, setting: str, value: str
) -> None:
    name = name_of(patient.database)
    alter(patient.database, "database", name, f"set {setting} = '{value}'")
    assert patient.bad() == []  # without a pooler, sessions set it
    with PgBouncer(tmp_path, postgres, mode="transaction") as pooler:
        patient.set_database(pooler.dsn(name))
        [line] = patient.bad()
    fix = f"alter role {postgres.user} set {setting} = '{SESSION_SETTINGS[setting]}'"
    assert line == f"BAD anomaly_db: runs need another {setting}, which they cannot set behind this pooler: {fix}"


def test_migrations_through_a_pooler_that_lends_sessions_are_refused_by_the_command(
    patient: Patient, postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with PgBouncer(tmp_path, postgres, mode="transaction") as pooler:
        patient.set_database(pooler.dsn(name_of(patient.database)))
        assert main(["migrate"]) == 0  # there is nothing to apply
        with psycopg.connect(patient.database) as connection:
            connection.execute("delete from anomaly._yoyo_migrations where migration_id like '0011_%'")
        assert main(["migrate"]) == 1
    assert "migrate --dsn with the address of the server itself" in capsys.readouterr().err


# ── read-only


@pytest.fixture(scope="module")
def standby(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A hot standby with a migrated database `records` and a due record."""
    server = Postgres(tmp_path_factory.mktemp("standby"))
    with server:
        server.ensure_database("records")
        migrate(server.dsn("records"))
        with RecordsDb(server.dsn("records")) as db:
            db.add(1)
    (server.data / "standby.signal").touch()
    with server:
        yield server


class Runs(FakeArchive):
    def begin_run(self, run_id: str) -> None:
        pass

    def put_report(self, run_id: str, body: bytes) -> str:
        return f"{run_id} {len(body)}"


def test_a_standby_is_named_before_a_run_and_by_the_claim(patient: Patient, standby: Postgres) -> None:
    patient.set_database(standby.dsn("records"))
    patient.database = standby.dsn("records")
    bad = [line for line in patient.bad() if "image of the oldest due record" not in line]
    assert bad == ["BAD anomaly_db: the server is a standby and read-only: name the primary server in the connection"]
    with RecordsDb(standby.dsn("records")) as db, pytest.raises(Misconfigured) as refused:
        runs.claim(db.run(), store=db.store, archive=Runs(), queue_lease_s=3600, chunks_max=10)
    assert "the records database is read-only" in str(refused.value)
    assert "name the primary server" in str(refused.value)


@pytest.mark.parametrize("of", ["database", "role"])
def test_transactions_that_are_read_only_by_default_are_named(patient: Patient, login: str, of: str) -> None:
    name = login if of == "role" else name_of(patient.database)
    alter(patient.database, of, name, "set default_transaction_read_only = on")
    patient.set_database(as_login(patient.database, login))
    [line] = patient.bad()
    assert line.startswith("BAD anomaly_db: transactions are read-only by default: set default_transaction_read_only to off")
    assert login in line


# ── defaults and encodings


@pytest.mark.parametrize("of", ["database", "role"])
@pytest.mark.parametrize(
    "change",
    [
        "DateStyle = 'SQL, DMY'",
        "DateStyle = German",
        "search_path = ''",
        "statement_timeout = '1s'",
        "default_transaction_isolation = serializable",
    ],
)
def test_other_defaults_are_no_problem(patient: Patient, login: str, change: str, of: str, capsys: pytest.CaptureFixture[str]) -> None:
    alter(patient.database, of, login if of == "role" else name_of(patient.database), f"set {change}")
    patient.set_database(as_login(patient.database, login))
    assert [line for line in patient.said() if not line.startswith("ok")] == []
    assert main(["check-sql"]) == 0
    assert main(["migrate"]) == 0
    assert "nothing: the schema is up to date" in capsys.readouterr().out


def test_a_timeout_in_which_nothing_can_be_done_is_named(patient: Patient, login: str) -> None:
    alter(patient.database, "role", login, "set statement_timeout = '1ms'")
    patient.set_database(as_login(patient.database, login))
    assert all("statement timeout" in line for line in patient.bad())  # none where the machine is fast enough to set another one


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_another_encoding_than_utf_8_is_named_and_everything_works(patient: Patient, postgres: Postgres, encoding: str) -> None:
    name = f"encoded_{next(NAMES)}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        made = SQL("create database {} template template0 encoding {} lc_collate 'C' lc_ctype 'C'")
        admin.execute(made.format(Identifier(name), encoding))
    patient.set_database(postgres.dsn(name))
    assert main(["migrate"]) == 0
    said = patient.said()
    assert [line for line in said if not line.startswith("ok")] == [
        f"see anomaly_db: the encoding {encoding} lacks characters, which are stored as ?; UTF8 has all of them"
    ]
    postgres.drop_database(name)


@pytest.mark.parametrize("of", ["database", "role"])
def test_a_connection_limit_of_the_login_or_the_database_is_compared(patient: Patient, login: str, of: str) -> None:
    alter(patient.database, of, login if of == "role" else name_of(patient.database), "connection limit 7")
    patient.set_database(as_login(patient.database, login))
    [line] = patient.bad()
    assert line.startswith("BAD pool: 4 tasks with 10 connections each may need 40, and the server accepts 7: lower ANOMALY_DB_POOL_MAX")


# ── a token instead of a password


def test_a_token_opens_the_database_for_every_command(
    patient: Patient, postgres: Postgres, login: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moment = datetime.now(UTC)
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda remove_tzinfo=True: moment.replace(tzinfo=None if remove_tzinfo else UTC)
    )
    for name, value in {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "eu-north-1"}.items():
        patient.set(name, value)
    from anomaly import connections  # noqa: PLC0415  # Airflow reads its configuration when it is imported

    patient.set_database(make_conninfo(postgres.dsn("no_tables"), user=login, password=""), iam=True)
    postgres.ensure_database("no_tables")
    token = str(conninfo_to_dict(connections.records_dsn())["password"])
    assert token.startswith(f"127.0.0.1:{postgres.port}/?Action=connect&DBUser={login}&X-Amz-Algorithm=")
    with psycopg.connect(patient.database, autocommit=True) as owner:
        owner.execute(SQL("alter role {} password {}").format(Identifier(login), Literal(token)))
    assert main(["migrate"]) == 0
    assert main(["check-sql"]) == 0
    assert [line for line in patient.bad() if "anomaly_s3" not in line] == []
    printed = capsys.readouterr()
    assert token not in printed.out + printed.err
    postgres.drop_database("no_tables")


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({}, "You must specify a region"),
        ({"AWS_DEFAULT_REGION": "eu-north-1"}, "Unable to locate credentials"),
        ({"AWS_DEFAULT_REGION": "eu-north-1", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}, "refuses the login"),
    ],
)
def test_a_token_that_cannot_be_made_or_is_refused_is_named(patient: Patient, environ: dict[str, str], sentence: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION"):
        patient.set(name, environ.get(name))
    patient.set("AWS_EC2_METADATA_DISABLED", "true")
    patient.set_database(make_conninfo(patient.database, password=""), iam=True)
    [line, _] = [line for line in patient.bad() if "anomaly_db" in line or line.startswith("BAD pool")]
    assert line.startswith("BAD anomaly_db: ")
    assert sentence in line


def test_a_server_without_tls_is_a_wrong_setting(patient: Patient) -> None:
    patient.set_database(patient.database, sslmode="require")
    [line, _] = patient.bad()
    assert line.startswith("BAD anomaly_db: the records database refuses the login: ")
    assert "server does not support SSL, but SSL was required" in line


# ── verdicts


def add_results(database: str, *rows: tuple[int, int, str, str, float, str, float]) -> None:
    names = ("id", "token", "name", "config", "score", "image", "latency")
    with psycopg.connect(database, autocommit=True) as connection:
        for row in rows:
            connection.execute(RESULT, dict(zip(names, row, strict=True)))


def test_verdicts_that_may_be_of_another_image_are_counted(patient: Patient) -> None:
    assert "ok  verdicts: none repeats that on another image and came back at once" in patient.said()
    add_results(
        patient.database,
        (1, 1, "d", "c", 0.25, "a", 80.0),
        (2, 1, "d", "c", 0.25, "b", 0.3),  # suspect
        (3, 1, "d", "c", 0.5, "c", 0.3),
        (4, 1, "d", "c", 0.25, "e", 0.3),  # scored again since
        (4, 2, "d", "c", 0.75, "e", 90.0),
    )
    [line] = patient.see()
    assert line.startswith("see verdicts: 1 came back at once and repeat the verdict on another image: docs/operations.md")
    assert patient.bad() == []


def test_another_detector_under_the_same_name_is_named(patient: Patient) -> None:
    add_results(patient.database, (1, 1, "127.0.0.1@unversioned", "another", 0.25, "a", 80.0))
    [line] = patient.see()
    assert line.startswith("see anomaly_detector: another configuration has given verdicts under the name 127.0.0.1@unversioned")
    assert 'set "model" in the extra' in line
    patient.set_detector(dialect="generic", path="/detect", model="the second")
    assert patient.see() == []


# ── printing


@pytest.mark.usefixtures("patient")
def test_what_is_printed_controls_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--detector", "a\x1b[2J\nok  all is well"]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\nok  all is well" not in out
    assert "BAD a\\x1b[2J\\nok  all is well: there is no connection" in out
