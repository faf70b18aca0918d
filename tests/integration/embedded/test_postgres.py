"""The embedded Postgres: commits survive a restart, and a connection needs the password."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from embedded.errors import StartFailed
from embedded.postgres import Postgres

if TYPE_CHECKING:
    from pathlib import Path


WRONG = "guessed"


def server_pid(server: Postgres) -> int:
    return int((server.data / "postmaster.pid").read_text().splitlines()[0])


def test_data_password_and_port_are_there_after_a_restart(tmp_path: Path) -> None:
    with Postgres(tmp_path / "a folder") as first, psycopg.connect(first.dsn()) as connection:
        connection.execute("create table kept as select 7 as figure")
        dsn = first.dsn()
    with Postgres(tmp_path / "a folder") as second, psycopg.connect(second.dsn()) as connection:
        assert second.dsn() == dsn
        assert connection.execute("select figure from kept").fetchone() == (7,)


def test_what_was_committed_survives_sigkill_and_the_next_start_comes_at_once(tmp_path: Path) -> None:
    with Postgres(tmp_path) as server:
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("create table kept as select 7 as figure")
        os.kill(server_pid(server), signal.SIGKILL)
    with Postgres(tmp_path) as server, psycopg.connect(server.dsn()) as connection:
        assert connection.execute("select figure from kept").fetchone() == (7,)


def test_a_wrong_password_is_refused(postgres: Postgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(host="127.0.0.1", port=postgres.port, user=postgres.user, password=WRONG, dbname="postgres")


def test_it_listens_on_the_loopback_interface_alone_and_checks_its_pages(postgres: Postgres) -> None:
    with psycopg.connect(postgres.dsn()) as connection:
        found = [connection.execute(f"show {name}".encode()).fetchone() for name in ("listen_addresses", "unix_socket_directories")]
        safe = [connection.execute(f"show {name}".encode()).fetchone() for name in ("fsync", "data_checksums", "password_encryption")]
    assert found == [("127.0.0.1",), ("",)]
    assert safe == [("on",), ("on",), ("scram-sha-256",)]


def test_a_data_folder_that_was_half_made_is_made_again(tmp_path: Path) -> None:
    draft = tmp_path / "data.draft"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    with Postgres(tmp_path) as server:
        assert server.ready()


def test_a_data_folder_of_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(StartFailed, match=r"made by Postgres 15.*move the folder away"), Postgres(tmp_path):
        pass


def test_a_server_that_ends_instead_of_starting_names_its_log(tmp_path: Path) -> None:
    with Postgres(tmp_path):
        pass
    (tmp_path / "data" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(StartFailed, match="its log is") as caught, Postgres(tmp_path) as server:
        assert server.ready()
    assert "no_such_setting" in (tmp_path / "logs" / "postgres.log").read_text()
    assert str(tmp_path) in str(caught.value)


def test_the_database_fixture_gives_each_test_its_own_tables(database: str) -> None:
    with psycopg.connect(database) as connection:
        assert connection.execute("select count(*) from anomaly.records").fetchone() == (0,)
        connection.execute("insert into anomaly.records (image_url, captured_at) values ('http://x', now())")


def test_the_next_test_sees_nothing_of_it(database: str) -> None:
    with psycopg.connect(database) as connection:
        assert connection.execute("select count(*) from anomaly.records").fetchone() == (0,)
