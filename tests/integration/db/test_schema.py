"""The schema: made by numbered migrations, once, whoever asks and whatever dies."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from anomaly.db import schema
from anomaly.errors import DatabaseUnavailable, Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedded.postgres import Postgres

ALL = sorted(path.stem for path in schema.MIGRATIONS.glob("*.sql"))


@pytest.fixture
def empty(postgres: Postgres) -> Iterator[str]:
    """The DSN of a database with nothing in it."""
    postgres.ensure_database("empty")
    yield postgres.dsn("empty")
    postgres.drop_database("empty")


def tables(dsn: str) -> dict[str, str]:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "select tablename, schemaname from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
        ).fetchall()
    return dict(found)


def test_a_migration_runs_once(empty: str) -> None:
    assert schema.migrate(empty) == ALL
    assert schema.migrate(empty) == []


def test_everything_is_in_the_schema_anomaly(empty: str) -> None:
    schema.migrate(empty)
    found = tables(empty)
    assert set(found.values()) == {"anomaly"}
    assert {"records", "batches", "chunks", "ai_results", "processing_log", "ai_flags"} <= set(found)


def test_of_migrations_at_once_one_does_the_work(empty: str) -> None:
    start = threading.Barrier(4)

    def migrate() -> list[str]:
        start.wait()
        return schema.migrate(empty)

    with ThreadPoolExecutor() as threads:
        applied = [job.result() for job in [threads.submit(migrate) for _ in range(4)]]
    assert sorted(applied) == [[], [], [], ALL]


def test_a_migration_that_fails_leaves_nothing_of_itself_and_can_be_repeated(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0001_good.sql").write_text("create table anomaly.good ();")
    bad = tmp_path / "0002_bad.sql"
    bad.write_text("create table anomaly.half ();\nselect 1 / 0;")
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path)
    with pytest.raises(Exception, match="division by zero"):
        schema.migrate(empty)
    assert "good" in tables(empty)
    assert "half" not in tables(empty)
    bad.write_text("create table anomaly.half ();")
    assert schema.migrate(empty) == ["0002_bad"]


def test_a_migration_of_which_nothing_says_that_it_was_applied_has_not_happened(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path)
    (tmp_path / "0001_first.sql").write_text("create table anomaly.first ();")
    schema.migrate(empty)
    (tmp_path / "0002_second.sql").write_text("create table anomaly.second ();")
    with psycopg.connect(empty) as connection:
        connection.execute("create function public.fails() returns trigger language plpgsql as $$ begin raise 'no'; end $$")
        connection.execute("create trigger fails before insert on anomaly._yoyo_migrations execute function public.fails()")
    with pytest.raises(DatabaseUnavailable):
        schema.migrate(empty)
    assert "second" not in tables(empty)
    with psycopg.connect(empty) as connection:
        connection.execute("drop trigger fails on anomaly._yoyo_migrations")
    assert schema.migrate(empty) == ["0002_second"]
    assert "second" in tables(empty)


def test_a_lock_that_a_dead_process_left_behind_stops_nobody(empty: str) -> None:
    with psycopg.connect(empty) as connection:
        connection.execute("create schema anomaly")
        connection.execute("create table anomaly.yoyo_lock (locked int primary key default 1, ctime timestamp, pid int not null)")
        connection.execute("insert into anomaly.yoyo_lock (pid) values (1)")
    assert schema.migrate(empty) == ALL


def test_the_check_passes_where_all_is_applied_and_where_there_is_more(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        schema.check_migrations(connection)
        connection.execute("insert into anomaly._yoyo_migrations values ('x', '9999_from_a_newer_version', now())")
        schema.check_migrations(connection)


def test_a_missing_schema_is_told_in_one_sentence(empty: str) -> None:
    with psycopg.connect(empty) as connection, pytest.raises(Misconfigured, match="run bin/anomaly migrate"):
        schema.check_migrations(connection)


def test_an_old_schema_is_told_with_what_it_lacks(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("delete from anomaly._yoyo_migrations where migration_id = %s", [ALL[-1]])
        with pytest.raises(Misconfigured, match=f"lacks {ALL[-1]}: run bin/anomaly migrate"):
            schema.check_migrations(connection)


def test_a_refused_login_is_a_matter_of_the_connection(postgres: Postgres) -> None:
    with pytest.raises(Misconfigured, match="refuses the login"):
        schema.migrate(postgres.dsn().replace(postgres.password, "wrong"))
    with pytest.raises(Misconfigured, match="refuses the login"):
        schema.migrate(postgres.dsn("no_such_database"))


def test_an_unreachable_database_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable):
        schema.migrate("postgresql://app:secret@127.0.0.1:1/none")


VALIDATED = "select convalidated from pg_constraint where conname = 'records_captured_at_finite'"


@pytest.mark.parametrize("times", [[], ["2026-01-01"], ["2026-01-01", "-infinity"], ["infinity"]])
def test_times_of_before_that_are_infinite_stay_and_only_later_ones_are_refused(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: list[str]
) -> None:
    for path in sorted(schema.MIGRATIONS.glob("*.sql")):
        if path.stem < "0010":
            shutil.copy(path, tmp_path)
    ours = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path)
    schema.migrate(empty)
    with psycopg.connect(empty) as connection:
        connection.cursor().executemany(
            "insert into anomaly.records (image_url, captured_at) values ('http://x/', %s)", [[at] for at in times]
        )
    monkeypatch.setattr(schema, "MIGRATIONS", ours)
    schema.migrate(empty)
    with psycopg.connect(empty) as connection:
        assert connection.execute(VALIDATED).fetchone() == (not any("infinity" in at for at in times),)
        assert connection.execute("select count(*) from anomaly.records").fetchone() == (len(times),)
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute("insert into anomaly.records (image_url, captured_at) values ('http://x/', 'infinity')")


@pytest.mark.parametrize("dropped", [True, False])
def test_a_table_of_ones_own_of_version_0_1_becomes_a_source_with_its_state(
    empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, dropped: bool
) -> None:
    for path in sorted(schema.MIGRATIONS.glob("*.sql")):
        if path.stem < "0010":
            shutil.copy(path, tmp_path)
    ours = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path)
    schema.migrate(empty)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(
            """create schema shop;
               create table shop.photos as select id as photo_id, image_url as url, captured_at as taken_at, r.* from anomaly.records as r;
               create or replace view anomaly.captured as
               select photo_id as record_id, url as image_url, taken_at as captured_at from shop.photos;
               insert into shop.photos (photo_id, url, taken_at, status, attempts, lost, token)
               values (7, 'http://a', now(), 'done', 1, 0, 2), (9, 'http://b', now(), 'claimed', 0, 1, 4),
                      (8, 'http://c', now(), 'pending', 0, 0, 0);
               insert into anomaly.processing_log (record_id, event, attempt, token) values (12, 'released', 0, 1)"""
        )
        if dropped:
            connection.execute("drop table anomaly.records")
    monkeypatch.setattr(schema, "MIGRATIONS", ours)
    assert "0013_sources" in schema.migrate(empty)
    page = (Path(__file__).resolve().parents[3] / "docs" / "your-own-table.md").read_text()
    move = page.partition("## From version 0.1.0")[2].partition("```sql\n")[2].partition("```")[0]
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(move.encode())
        found = connection.execute("select id, status, token, source, source_key from anomaly.records order by id").fetchall()
        assert found == [
            (7, "done", 2, "shop.photos", "7"),
            (8, "pending", 0, "shop.photos", "8"),
            (9, "pending", 4, "shop.photos", "9"),
        ]
        assert connection.execute("select record_id from anomaly.captured order by 1").fetchall() == [(7,), (8,), (9,)]
        added = connection.execute(
            "insert into anomaly.records (image_url, captured_at) values ('http://d', now()) returning id"
        ).fetchone()
        assert added == (10,)


def test_records_of_before_stay_as_they_are(empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(schema.MIGRATIONS.glob("*.sql")):
        if path.stem < "0013":
            shutil.copy(path, tmp_path)
    ours = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path)
    schema.migrate(empty)
    select = "select id, image_url, captured_at, status, token, attributes from anomaly.records order by id"
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(
            "insert into anomaly.records (image_url, captured_at) select 'http://x/' || i, now() from generate_series(1, 3) as i"
        )
        before = connection.execute(select).fetchall()
        monkeypatch.setattr(schema, "MIGRATIONS", ours)
        schema.migrate(empty)
        assert connection.execute(select).fetchall() == before
        assert connection.execute("select distinct source, source_key from anomaly.records").fetchall() == [(None, None)]


def test_records_of_sources_of_before_are_in_the_index_by_time(empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(schema.MIGRATIONS.glob("*.sql")):
        if path.stem < "0029":
            shutil.copy(path, tmp_path)
    ours = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path)
    schema.migrate(empty)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(
            """insert into anomaly.records (image_url, captured_at, source, source_key)
               select 'http://x/' || i, '2026-01-01'::timestamptz + i * interval '1 day', 'shop', i from generate_series(1, 300) as i"""
        )
        monkeypatch.setattr(schema, "MIGRATIONS", ours)
        assert "0029_source_records_by_time" in schema.migrate(empty)
        connection.execute("set enable_seqscan to off")
        query = (
            "select image_url from anomaly.records where source = 'shop' and captured_at = '2026-01-03' and source_key collate \"C\" = '2'"
        )
        assert connection.execute(query).fetchall() == [("http://x/2",)]
        assert "using records_source_time" in str(connection.execute("explain " + query).fetchone())


def test_results_of_before_are_in_the_sums(empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in sorted(schema.MIGRATIONS.glob("*.sql")):
        if path.stem < "0026":
            shutil.copy(path, tmp_path)
    ours = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path)
    schema.migrate(empty)
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(
            """insert into anomaly.ai_results (record_id, token, detector, config, score, is_anomaly, image_sha256, image_key, answer_key,
                      latency_ms, dag_id, run_id, map_index, try_number, created_at)
               select i, 1, 'padim@' || i % 2, 'c', i / 1000.0, i > 900, 'ab', 'k', 'k', 1, 'd', 'r', 0, 1, now() - i * interval '1 hour'
                 from generate_series(1, 1000) as i"""
        )
        monkeypatch.setattr(schema, "MIGRATIONS", ours)
        schema.migrate(empty)
        sums = "select sum(verdicts)::integer, sum(anomalies)::integer, count(*)::integer from anomaly.verdict_hours"
        assert connection.execute(sums).fetchone() == (1000, 100, 1000)
        assert connection.execute("select sum(verdicts)::integer, min(score) from anomaly.score_days").fetchone() == (1000, 0.001)


@pytest.fixture
def guest(empty: str) -> Iterator[str]:
    """The DSN of a login that may connect and nothing else."""
    with psycopg.connect(empty, autocommit=True) as owner:
        owner.execute("create role guest login password 'guest'")
    yield make_conninfo(empty, user="guest", password="guest")  # noqa: S106  # of this test
    with psycopg.connect(empty, autocommit=True) as owner:
        owner.execute("drop owned by guest cascade")
        owner.execute("drop role guest")


def test_in_a_schema_that_an_administrator_has_made_no_right_on_the_database_is_needed(empty: str, guest: str) -> None:
    with pytest.raises(Misconfigured, match='create schema anomaly authorization "guest"'):
        schema.migrate(guest)
    with psycopg.connect(empty, autocommit=True) as owner:
        owner.execute("create schema anomaly authorization guest")
    assert schema.migrate(guest) == ALL


def test_a_schema_in_which_the_login_may_create_nothing_is_told(empty: str, guest: str) -> None:
    with psycopg.connect(empty, autocommit=True) as owner:
        owner.execute("create schema anomaly")
        owner.execute("grant usage on schema anomaly to guest")
    with pytest.raises(Misconfigured, match='grant create, usage on schema anomaly to "guest"'):
        schema.migrate(guest)


def test_a_database_that_only_reads_is_told(empty: str) -> None:
    with pytest.raises(Misconfigured, match="read-only"):
        schema.migrate(make_conninfo(empty, options="-c default_transaction_read_only=on"))


def test_dates_in_another_style_change_nothing(empty: str) -> None:
    german = make_conninfo(empty, options="-c DateStyle=German")
    assert schema.migrate(german) == ALL
    assert schema.migrate(german) == []
