"""Each connection is tried with what a run does, before anything starts: one sentence about what fails, and nothing is left behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from anomaly.connection_env import DB, DETECTOR, IMAGES, S3
from anomaly.connection_trial import try_connections
from anomaly.errors import Misconfigured
from anomaly.settings import Settings
from embedded import connections
from tests.parts.http_stub import HttpStub, Reply
from tests.parts.record_builders import RecordsDb
from tests.parts.source_table import create_photos

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedded.postgres import Postgres
    from embedded.s3 import S3 as EmbeddedS3  # noqa: N811  # a class; the constant S3 is a variable's name

KEY = "Zx9-never-on-a-screen"
VERDICT = Reply(body=b'{"score": 0.25, "is_anomaly": false}', content_type="application/json")
QUICK = Settings(detector_read_timeout_s=1, detector_deadline_s=2)


@pytest.fixture
def stub() -> Iterator[HttpStub]:
    with HttpStub() as opened:
        opened.at("/detect", VERDICT)
        yield opened


def detector(stub: HttpStub, **extra: Any) -> dict[str, str]:
    made = {"dialect": "generic", "path": "/detect"} | extra
    return {DETECTOR: json.dumps({"conn_type": "http", "host": "127.0.0.1", "port": stub.port, "password": KEY, "extra": made})}


def refusal(environ: dict[str, str], **options: Any) -> str:
    with pytest.raises(Misconfigured) as caught:
        list(try_connections(environ, QUICK, **options))
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert KEY not in sentence
    return sentence


def test_services_that_work_are_named_with_what_was_tried(database: str, s3: EmbeddedS3, stub: HttpStub) -> None:
    environ = {DB: database, S3: connections.to_s3(s3)} | detector(stub)
    lines = list(try_connections(environ, QUICK))
    assert lines[:2] == [f"{DB}: a claim was tried and rolled back", f"{S3}: an object was written, read and deleted"]
    assert lines[2].startswith(f"{DETECTOR}: the detector was asked and answered with a score of 0.25 in ")
    assert len(stub.asked("/detect")) == 1
    listed = s3.client().list_objects_v2(Bucket=s3.bucket, Prefix="answers/startup-")
    assert listed["KeyCount"] == 0


# ── detector


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(status=401, body=b'{"detail": "unknown key"}'), "unknown key"),
        (Reply(status=404, body=b'{"detail": "no such path"}'), "no such path"),
        (Reply(status=422, body=b'{"detail": "field \'image\' is required"}'), "field 'image' is required"),
        (Reply(status=402, body=b'{"detail": "no credit is left"}'), "402"),
        (Reply(status=500, body=b"oops"), "500"),
        (Reply(body=b'{"detail": "Model is being loaded"}', content_type="application/json"), "score"),
        (Reply(body=b"<html>a login page</html>", content_type="text/html"), "JSON"),
        (Reply(headers_after_s=5), "no"),
    ],
)
def test_a_detector_that_gives_no_verdict_is_refused_with_its_own_words(stub: HttpStub, reply: Reply, said: str) -> None:
    stub.at("/detect", reply)
    sentence = refusal(detector(stub))
    assert sentence.startswith(f"{DETECTOR}: ")
    assert said in sentence
    assert len(stub.asked("/detect")) == 1


def test_a_refused_image_advises_another_one(stub: HttpStub, tmp_path: Path) -> None:
    stub.at("/detect", Reply(status=422, body=b'{"detail": "no photo"}'))
    assert refusal(detector(stub)).endswith("if it accepts photos only, start with --image and the path of one")
    assert (
        refusal(detector(stub), image=tmp_path / "none.png")
        == f"the image {tmp_path / 'none.png'} cannot be read: No such file or directory"
    )


@pytest.mark.parametrize("reply", [Reply(status=429, headers={"Retry-After": "30"}), Reply(status=503)])
def test_a_detector_that_is_busy_is_waited_for_by_runs(stub: HttpStub, reply: Reply) -> None:
    stub.at("/detect", reply)
    (line,) = try_connections(detector(stub), QUICK)
    assert line.startswith(f"{DETECTOR}: the detector is busy, and runs will wait for it: ")


def test_an_option_that_does_not_exist_is_refused(stub: HttpStub) -> None:
    assert "dialect" in refusal(detector(stub, dialect="generics"))
    assert stub.asked("/detect") == []


# ── bucket


def test_keys_that_may_not_write_are_refused(s3: EmbeddedS3) -> None:
    value = json.loads(connections.to_s3(s3))
    assert refusal({S3: json.dumps(value | {"password": KEY})}).startswith(f"the bucket {s3.bucket} of {S3} refuses these keys")


def test_encryption_that_does_not_exist_is_refused(s3: EmbeddedS3) -> None:
    value = json.loads(connections.to_s3(s3))
    value["extra"]["server_side_encryption"] = "rot13"
    assert refusal({S3: json.dumps(value)}).startswith(f"{S3}: ")


# ── database


def dsn_of(postgres: Postgres, database: str, role: str) -> str:
    return database.replace(f"{postgres.user}:{postgres.password}@", f"{role}:{KEY}@")


@pytest.fixture
def role(postgres: Postgres, database: str) -> Iterator[str]:
    """A login without privileges."""
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("create role newcomer login password 'Zx9-never-on-a-screen'")
        yield dsn_of(postgres, database, "newcomer")
        admin.execute("drop owned by newcomer")
        admin.execute("drop role newcomer")


def test_a_login_that_may_not_claim_is_refused(role: str) -> None:
    assert "permission denied for schema anomaly" in refusal({DB: role})


def test_a_login_that_may_only_read_is_refused(role: str, database: str) -> None:
    with psycopg.connect(database) as admin:
        admin.execute("grant usage on schema anomaly to newcomer")
        admin.execute("grant select on all tables in schema anomaly to newcomer")
    assert "permission denied for table records" in refusal({DB: role})


def test_a_login_that_may_not_create_the_schema_is_refused(role: str, database: str) -> None:
    with psycopg.connect(database) as admin:
        admin.execute("drop schema anomaly cascade")
    assert "let an administrator run: create schema anomaly authorization" in refusal({DB: role})


def test_a_database_without_the_schema_is_left_without_it(database: str) -> None:
    with psycopg.connect(database) as admin:
        admin.execute("drop schema anomaly cascade")
    assert list(try_connections({DB: database}, QUICK)) == [f"{DB}: a claim was tried and rolled back"]
    with psycopg.connect(database) as admin:
        assert admin.execute("select to_regnamespace('anomaly')").fetchone() == (None,)


def test_a_read_only_login_is_refused(role: str, database: str) -> None:
    with psycopg.connect(database) as admin:
        admin.execute("alter role newcomer set default_transaction_read_only to on")
    assert "transactions are read-only by default" in refusal({DB: role})


def test_a_claim_that_is_tried_changes_no_record_and_waits_for_no_lock(database: str) -> None:
    query = "insert into anomaly.records (image_url, captured_at) values ('https://images.example/1.png', now()) returning xmin::text"
    with psycopg.connect(database, autocommit=True) as admin:
        before = admin.execute(query).fetchone()
        with admin.transaction():
            admin.execute("select from anomaly.records for update")
            list(try_connections({DB: database}, QUICK))
        list(try_connections({DB: database}, QUICK))
        assert admin.execute("select xmin::text from anomaly.records").fetchone() == before


# ── image hosts


@pytest.mark.parametrize("extra", [{"allow_networks": ["10.0.0.0/99"]}, {"allow_ports": ["many"]}, {"hosts": [1]}])
def test_rules_for_images_that_have_no_meaning_are_refused(extra: dict[str, Any]) -> None:
    assert refusal({IMAGES: json.dumps({"conn_type": "http", "extra": extra})}).startswith(f"{IMAGES}: ")


# ── sources


def with_source(database: str, **changes: Any) -> dict[str, str]:
    source = {"table": "shop.photos", "id": "photo_id", "image_url": "url", "captured_at": "taken_at", **changes}
    to = conninfo_to_dict(database)
    parts = {"host": to["host"], "port": to["port"], "schema": to["dbname"], "login": to["user"], "password": to["password"]}
    return {DB: json.dumps({"conn_type": "postgres", **parts, "extra": {"source": source}})}


def test_the_table_of_a_source_is_named_or_refused_before_anything_starts(database: str) -> None:
    with RecordsDb(database) as db:
        create_photos(db)
    said = list(try_connections(with_source(database), QUICK))
    assert said == [f"{DB}: a claim was tried and rolled back; records come from shop.photos"]
    assert refusal(with_source(database, table="shop.foto")).endswith("there is no table or view shop.foto; did you mean shop.photos?")
    assert '"image_url" is missing' in refusal(with_source(database, image_url=""))
    elsewhere = with_source(database, table="far.away", connection="anomaly_source")
    assert next(try_connections(elsewhere, QUICK)).endswith("records come from far.away")
