"""A source that cannot be used is one sentence for the doctor, for `attach` and for the claim, and nothing is stored."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from anomaly import connections
from anomaly.errors import AnomalyError, DatabaseUnavailable, Misconfigured
from anomaly.maintenance.check_sources import check_sources
from anomaly.maintenance.sources import find_rows
from anomaly.metrics import SILENT
from anomaly.models.runs import Window
from anomaly.settings import Settings
from tests.parts.record_builders import RecordsDb
from tests.parts.source_table import PHOTOS, create_photos

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedded.postgres import Postgres
    from tests.parts.installation import Installation


def configure(installation: Installation, **changes: Any) -> None:
    installation.set("ANOMALY_SOURCE", json.dumps({**PHOTOS, **changes}))


def claim() -> None:
    """Look for new rows as the task `claim` does."""
    settings = Settings.from_environ(os.environ)
    with connections.database(settings) as records:
        find_rows(Window(), most=None, settings=settings, records=records, metrics=SILENT)


def assert_refused(installation: Installation, fault: str, error: type[AnomalyError] = Misconfigured) -> None:
    """Check that doctor, `attach` and claim refuse the source with a sentence that contains the *fault*."""
    said = installation.run("attach")
    assert (said.status, said.out) == (1, "")
    assert fault in said.err
    assert len(said.err.splitlines()) == 1
    settings = Settings.from_environ(os.environ)
    try:
        bad = [finding.problem for finding in check_sources(settings)]
    except AnomalyError as exc:  # shown as a finding too
        bad = [str(exc)]
    assert len(bad) == 1
    assert fault in bad[0]
    assert installation.db.rows("select from anomaly.sources") == []
    with pytest.raises(error) as caught:
        claim()
    assert fault in str(caught.value)
    assert installation.db.rows("select from anomaly.records") == []


FAILING_VIEW = "create view shop.seen as select photo_id, url, taken_at, 1 / (photo_id - 2) as one from shop.photos"

ENUM = "create type shop.kind as enum ('a'); alter table shop.photos add kind shop.kind unique"


@pytest.mark.parametrize(
    ("prepare", "changes", "fault"),
    [
        ("", {"table": "shop.foto"}, "there is no table or view shop.foto; did you mean shop.photos?"),
        ("", {"captured_at": "status"}, "the column 'status' is text, and captured_at needs date or timestamp"),
        ("", {"condition": "photo_id >"}, 'its rows cannot be read (syntax error at or near ")"): correct the condition'),
        ("", {"condition": "photoid > 1"}, 'its rows cannot be read (column "photoid" does not exist): correct the condition'),
        ("", {"condition": "photo_id"}, "its rows cannot be read (argument of AND must be type boolean, not type bigint)"),
        ("", {"condition": "1 / (photo_id - 2) = 1"}, "its rows cannot be read (division by zero): correct the condition"),
        ("", {"condition": "true) or (true; drop table shop.photos; --"}, "its rows cannot be read (syntax error"),
        ("", {"condition": "photo_id = (select i from generate_series(1, 2) as i)"}, "(more than one row returned by a subquery"),
        (
            FAILING_VIEW,
            {"table": "shop.seen", "attributes": ["one"]},
            "its rows cannot be read (division by zero): correct the condition, or",
        ),
        (
            "create type shop.kind as enum ('a'); alter table shop.photos add kind shop.kind unique",
            {"id": "kind"},
            "shop.kind, and id needs",
        ),
        ("", {"connection": "anomaly_source", "write_back": {"score": "p"}}, '"write_back" needs a source in the database of anomaly_db'),
        ("", {"connection": "anomaly_source"}, "there is no connection anomaly_source"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_sentence_everywhere(
    installation: Installation, prepare: str, changes: dict[str, Any], fault: str
) -> None:
    create_photos(installation.db, count=3)
    if prepare:
        installation.db.sql.execute(sql.SQL(prepare))
    configure(installation, **changes)
    assert_refused(installation, fault)
    assert installation.db.rows("select count(*) as n from shop.photos") == [{"n": 3}]


@pytest.fixture
def other(installation: Installation, postgres: Postgres) -> Iterator[RecordsDb]:
    """A second database with the table, and a login `reader` that may read it."""
    postgres.ensure_database("shop")
    with RecordsDb(postgres.dsn("shop")) as opened:
        create_photos(opened, count=3)
        opened.do("create role reader login password 'reader'; grant usage on schema shop to reader; grant select on shop.photos to reader")
        to_source(installation, opened)
        configure(installation, connection="anomaly_source")
        yield opened
        opened.do("drop owned by reader; drop role reader")
    postgres.drop_database("shop")


def to_source(installation: Installation, other: RecordsDb, **changes: Any) -> None:
    to = conninfo_to_dict(other.dsn)
    parts = {"host": to["host"], "port": int(str(to["port"])), "schema": to["dbname"], "login": "reader", "password": "reader"}
    installation.connect("anomaly_source", conn_type="postgres", **parts | changes)


def test_a_source_in_another_database_is_read_by_a_login_that_may_do_nothing_else(installation: Installation, other: RecordsDb) -> None:
    other.do("alter role reader set default_transaction_read_only to on")
    other.do("insert into shop.photos (photo_id, url, taken_at) values (9, null, now())")
    assert installation.run("attach", "--json").json["sources"]["shop.photos"]["new"] == 3
    claim()
    claim()
    found = installation.db.rows("select source, count(*) as n from anomaly.records group by 1")
    assert found == [{"source": "shop.photos", "n": 3}]
    assert other.rows("select nspname from pg_namespace where nspname = 'anomaly'") == []
    assert not any(finding.problem for finding in check_sources(Settings.from_environ(os.environ)))


@pytest.mark.parametrize(
    ("prepare", "changes", "fault", "error"),
    [
        ("", {"password": "wrong"}, "the database of anomaly_source cannot be used: ", Misconfigured),
        ("", {"port": 1}, "the database of anomaly_source cannot be used: ", DatabaseUnavailable),
        ("", {"schema": "nowhere"}, "the database of anomaly_source cannot be used: ", Misconfigured),
        ("revoke all on shop.photos from reader", {}, "the login may not read 'photo_id', 'url', 'taken_at' of shop.photos", Misconfigured),
        ("revoke usage on schema shop from reader", {}, "the login may not use the schema shop", Misconfigured),
        ("drop table shop.photos", {}, "there is no table or view shop.photos", Misconfigured),
    ],
)
def test_a_second_database_that_cannot_be_read_is_one_sentence_that_names_its_connection(
    installation: Installation, other: RecordsDb, *, prepare: str, changes: dict[str, Any], fault: str, error: type[AnomalyError]
) -> None:
    if prepare:
        other.do(prepare)
    to_source(installation, other, **changes)
    assert_refused(installation, fault, error)


def test_two_sources_one_with_a_trigger_and_one_looked_at_do_not_disturb_each_other(installation: Installation) -> None:
    db = installation.db
    create_photos(db, count=2)
    db.do("create table shop.scans (like shop.photos including all); insert into shop.scans select * from shop.photos")
    installation.set("ANOMALY_SOURCE", json.dumps([PHOTOS, {**PHOTOS, "table": "shop.scans"}]))
    assert installation.run("attach", "shop.scans", "--trigger").status == 0
    assert installation.run("attach", "shop.photos").status == 0
    claim()
    for table in ("photos", "scans"):
        db.sql.execute(sql.SQL("insert into shop.{} (photo_id, url, taken_at) values (5, 'http://x', now())").format(sql.Identifier(table)))
    claimed = "select source, count(*) as n from anomaly.records group by source order by source"
    assert db.rows(claimed) == [{"source": "shop.photos", "n": 2}, {"source": "shop.scans", "n": 3}]
    claim()
    claim()
    assert db.rows(claimed) == [{"source": "shop.photos", "n": 3}, {"source": "shop.scans", "n": 3}]
    assert installation.run("detach", "shop.scans").status == 0
    db.do("insert into shop.scans (photo_id, url, taken_at) values (6, 'http://x', now())")
    assert db.rows(claimed)[1]["n"] == 3
    claim()
    assert db.rows(claimed)[1]["n"] == 4


def test_attach_shows_the_rows_before_it_stores_anything(installation: Installation) -> None:
    create_photos(installation.db, count=2)
    installation.db.do("insert into shop.photos (photo_id, url, taken_at) values (7, null, now()), (8, 'http://x', null)")
    configure(installation, attributes=["class"])
    said = installation.run("attach", "--dry-run")
    assert said.status == 0
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    for wanted in (
        "rows 4",
        "looked at 3, those that the next run begins with",
        "to be added 2",
        "records already 0",
        "refused 2",
        "8: it has no time of capture",
        "7: it has no address of an image",
        "key 1",
        "image_url http://images/1",
        "class null",
    ):
        assert wanted in lines
    assert installation.db.rows("select from anomaly.sources") == []
    assert "each run looks for its rows" in installation.run("attach").out
    assert len(installation.db.rows("select from anomaly.sources")) == 1
