"""The doctor says of each thing that a run needs whether it is there and works, and what to do where it is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from anomaly.commands import main
from anomaly.db import schema
from anomaly.db.statements import FOLDER
from anomaly.maintenance.check_bucket import FIRST, SECOND, check_second_write
from anomaly.maintenance.doctor import usable_settings
from anomaly.settings import Settings
from tests.parts.http_stub import Reply
from tests.parts.record_builders import RecordsDb
from tests.parts.sql_files import checked_files

if TYPE_CHECKING:
    from tests.parts.doctor_patient import Patient

# ── all checks pass


def test_where_all_is_well_every_line_is_ok_and_nothing_is_left_behind(patient: Patient) -> None:
    with RecordsDb(patient.database) as db:
        db.claims(2)
        before = db.everything()
        ended = subprocess.run([sys.executable, "-m", "anomaly", "doctor"], capture_output=True, text=True, check=False, timeout=60)
        assert db.everything() == before
    lines = ended.stdout.splitlines()
    assert (ended.returncode, ended.stderr) == (0, ""), lines
    assert [line for line in lines if not line.startswith("ok  ")] == []
    said = "\n".join(lines)
    to = conninfo_to_dict(patient.database)
    for sentence in (
        "settings: all defaults",
        f"anomaly_db: {to['user']} at {to['host']}:{to['port']}/{to['dbname']}",
        f"schema: all {len(schema.known_migrations())} migrations are applied",
        f"SQL files: {len(checked_files(FOLDER))} match the schema and the privileges of the login",
        "enough for",
        "clocks: the database and this machine agree within 30 s",
        "anomaly_s3: the bucket exists and can be written",
        "anomaly_s3: objects can be read, and a second write under a key keeps the first object",
        "anomaly_s3: objects can be deleted",
        "clocks: the bucket and this machine agree within 30 s",
        "anomaly_detector: 127.0.0.1@unversioned called an image normal with a score of 0.25, in ",
        "anomaly_images: images may come from public addresses",
        "notifications: none",
    ):
        assert sentence in said
    assert patient.objects() == []
    [asked] = patient.stub.asked("/detect")
    assert asked.body.startswith(b"\x89PNG")


def test_a_detector_that_tells_about_its_health_is_asked_for_it(patient: Patient) -> None:
    patient.stub.at("/readyz", Reply(body=b"{}"))
    patient.set_detector(dialect="reference")
    answer = {"score": 0.9, "is_anomaly": True, "threshold": 0.5, "model": {"name": "padim", "version": "1"}}
    patient.stub.at("/v1/detect", Reply(body=json.dumps(answer).encode(), content_type="application/json"))
    said = patient.said()
    assert "ok  anomaly_detector: it is ready" in said
    assert any("padim@1 called an image anomalous with a score of 0.9" in line for line in said)
    patient.stub.at("/readyz", Reply(status=503))
    assert patient.bad() == ["BAD anomaly_detector: its health check answered 503: wait, or read its log"]


def test_another_detector_may_be_asked(patient: Patient) -> None:
    [line] = patient.bad(detector="anomaly_second")
    assert line.startswith("BAD anomaly_second: there is no connection anomaly_second: add it in Airflow's UI")


def test_migrations_of_a_newer_version_are_told_and_not_bad(patient: Patient) -> None:
    with psycopg.connect(patient.database) as connection:
        connection.execute("insert into anomaly._yoyo_migrations values ('x', '9999_from_a_newer_version', now())")
    assert any(line.endswith("migrations are applied, and 9999_from_a_newer_version of a newer version") for line in patient.said())
    assert patient.bad() == []


# ── database


def test_a_wrong_password_is_told_and_the_other_checks_go_on(patient: Patient) -> None:
    patient.set_database(make_conninfo(patient.database, password="wrong"))  # noqa: S106  # it is wrong
    said = patient.said()
    refused = [line for line in said if line.startswith("BAD")]
    assert [line.partition(":")[0] for line in refused] == ["BAD anomaly_db", "BAD pool"]
    assert all("the records database refuses the login" in line for line in refused)
    assert any(line.startswith("ok  anomaly_detector") for line in said)
    assert any(line.startswith("ok  anomaly_s3") for line in said)


@pytest.mark.parametrize("value", ["postgresql://user:pa/ss-word@host:5432/db", '{"conn_type": "postgres", "password": "pa/ss-word", '])
def test_a_connection_that_cannot_be_read_is_told_without_its_password(patient: Patient, value: str) -> None:
    patient.set("AIRFLOW_CONN_ANOMALY_DB", value)
    sentence = "AIRFLOW_CONN_ANOMALY_DB is neither a connection URI nor JSON for Airflow; docs/operations.md shows both"
    assert patient.bad() == [f"BAD anomaly_db: {sentence}", f"BAD pool: {sentence}"]


@pytest.mark.parametrize("wrong", ["{}", "retries", ["a"], 5])
def test_options_of_the_client_that_are_no_object_are_told_with_what_to_write(patient: Patient, wrong: Any) -> None:
    patient.set_bucket(config_kwargs=wrong)
    sentence = "config_kwargs must be a JSON object, so write the connection as JSON; docs/operations.md shows it"
    assert patient.bad() == [f"BAD anomaly_s3: the connection anomaly_s3: {sentence}"]


def test_an_option_that_the_client_does_not_have_is_named_and_stops_no_other_check(patient: Patient) -> None:
    patient.set_bucket(config_kwargs={"nonsense": "ss-word"})
    said = patient.said()
    bad = "BAD anomaly_s3: the connection anomaly_s3: botocore refuses config_kwargs: Got unexpected keyword argument 'nonsense'"
    assert [line for line in said if line.startswith("BAD")] == [bad]
    assert said[-2].startswith("ok  anomaly_images")


def test_a_connection_that_is_not_set_is_told_with_its_variable(patient: Patient) -> None:
    patient.set("AIRFLOW_CONN_ANOMALY_S3", None)
    assert patient.bad() == [
        "BAD anomaly_s3: there is no connection anomaly_s3: add it in Airflow's UI (Admin, Connections) or set AIRFLOW_CONN_ANOMALY_S3"
    ]


def test_a_missing_migration_is_told_with_what_to_run(patient: Patient) -> None:
    newest = max(schema.known_migrations())
    with psycopg.connect(patient.database) as connection:
        connection.execute("delete from anomaly._yoyo_migrations where migration_id = %s", [newest])
    assert patient.bad() == [f"BAD schema: the records database lacks {newest}: run bin/anomaly migrate"]


def test_a_missing_table_is_one_line_with_the_files_that_need_it(patient: Patient) -> None:
    with psycopg.connect(patient.database) as connection:
        connection.execute("alter table anomaly.ai_flags rename to flags_of_before")
    [line] = patient.bad()
    assert line.startswith("BAD SQL files: commit_verdict.sql, ")
    assert line.endswith(' more: relation "anomaly.ai_flags" does not exist; run bin/anomaly migrate, or correct the files')


def test_an_edited_file_with_a_fault_is_named(patient: Patient, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FOLDER, tmp_path / "sql"))
    edited = folder / "mark_alone.sql"
    edited.write_text(edited.read_text().replace(" and ended_at is null", ""))
    [line] = patient.bad(folder=folder)
    assert line.startswith("BAD SQL files: mark_alone.sql: 'ended_at is null' is missing, without which the claims are not safe")


def test_a_login_that_may_not_write_is_told_what_it_lacks(patient: Patient) -> None:
    with psycopg.connect(patient.database, autocommit=True) as owner:
        owner.execute("create role reader login password 'reader'")
        owner.execute("grant usage on schema anomaly to reader")
        owner.execute("grant select on all tables in schema anomaly to reader")
    try:
        patient.set_database(make_conninfo(patient.database, user="reader", password="reader"))  # noqa: S106  # of this test
        bad = patient.bad()
    finally:
        with psycopg.connect(patient.database, autocommit=True) as owner:
            owner.execute("drop owned by reader")
            owner.execute("drop role reader")
    assert bad
    assert all(line.startswith("BAD SQL files: ") and line.endswith("; grant it to the login of anomaly_db") for line in bad)
    assert any("commit_verdict.sql" in line and "permission denied for table records" in line for line in bad)


def test_more_tasks_than_the_database_has_connections_for_are_told(patient: Patient) -> None:
    patient.set("AIRFLOW__CORE__PARALLELISM", "32")
    assert patient.bad() == []  # a run has four tasks
    patient.set("AIRFLOW__CORE__PARALLELISM", "20")
    [line] = [line for line in patient.said(environ={"ANOMALY_TASKS_MAX": "40"}) if line.startswith("BAD")]
    assert line.startswith("BAD pool: 20 tasks with 10 connections each may need 200, and the server accepts 97: lower ANOMALY_DB_POOL_MAX")


@pytest.mark.parametrize(("ahead", "order"), [(timedelta(hours=1), "behind"), (-timedelta(hours=1), "ahead of")])
def test_clocks_that_disagree_are_told(patient: Patient, ahead: timedelta, order: str) -> None:
    bad = patient.bad(now=lambda: datetime.now(UTC) + ahead)
    assert [line.partition(" is ")[0] for line in bad] == ["BAD clocks: the clock of the database", "BAD clocks: the clock of the bucket"]
    assert all(f" s {order} this machine's: set both by NTP" in line for line in bad)


# ── bucket


def test_a_bucket_that_is_not_there_is_told_and_not_made(patient: Patient) -> None:
    patient.set_bucket(bucket="no-such-bucket")
    assert patient.bad() == ["BAD anomaly_s3: there is no such bucket: 'no-such-bucket'"]
    assert [each["Name"] for each in patient.s3.client().list_buckets()["Buckets"]] == [patient.s3.bucket]


def test_a_wrong_secret_key_is_told(patient: Patient) -> None:
    patient.set_bucket(password="not-the-secret")  # noqa: S106  # it is wrong
    [line] = patient.bad()
    assert line.startswith("BAD anomaly_s3: cannot write bucket")
    assert "the secret key is wrong" in line


def test_a_service_that_lets_a_second_write_win_is_told() -> None:
    assert [str(finding) for finding in check_second_write(FIRST)] == [
        "ok  anomaly_s3: objects can be read, and a second write under a key keeps the first object"
    ]
    [second] = check_second_write(SECOND)
    assert str(second) == "BAD anomaly_s3: the second write under a key replaced the first: the service must honour If-None-Match"
    [absent] = check_second_write(None)
    assert absent.problem.startswith("an object cannot be read right after it was written")


# ── detector and images


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (Reply(body=b"<html>hello</html>", content_type="text/html"), "BAD anomaly_detector: "),
        (Reply(status=401, body=b"{}"), "BAD anomaly_detector: 127.0.0.1/detect answered 401"),
        (Reply(status=500), "BAD anomaly_detector: 127.0.0.1/detect answered 500"),
        (Reply(reset=True), "BAD anomaly_detector: "),
    ],
)
def test_a_detector_that_gives_no_verdict_is_told_with_what_it_answers(patient: Patient, reply: Reply, sentence: str) -> None:
    patient.stub.at("/detect", reply)
    [line] = patient.bad()
    assert line.startswith(sentence)


def test_a_pause_that_holds_is_named_with_the_command_that_lifts_it(patient: Patient, capsys: pytest.CaptureFixture[str]) -> None:
    with psycopg.connect(patient.database, autocommit=True) as connection:
        connection.execute("insert into anomaly.detectors (detector, held_until) values ('anomaly_detector', '2100-01-01T00:00:00Z')")
    [bad] = patient.bad()
    assert "until 2100-01-01 00:00:00+00:00" in bad
    assert "bin/anomaly resume-detector anomaly_detector" in bad
    assert main(["resume-detector", "anomaly_detector"]) == 0
    assert capsys.readouterr().out.endswith("anomaly_detector: the pause has ended; 0 records that waited for it are due\n")
    assert patient.bad() == []
    assert main(["resume-detector", "anomaly_detector"]) == 0
    assert capsys.readouterr().out.endswith("anomaly_detector: there is no pause\n")


def test_an_extra_that_no_detector_has_is_named(patient: Patient) -> None:
    patient.set_detector(dialect="generic", path="/detect", treshold=0.5)
    [line] = patient.bad()
    assert line.startswith("BAD anomaly_detector: the detector's connection: there is no extra 'treshold'")


def test_rules_for_images_are_read(patient: Patient) -> None:
    patient.set("AIRFLOW_CONN_ANOMALY_IMAGES", '{"conn_type": "http", "extra": {"allow_networks": ["10.1.0.0/16"]}}')
    assert "ok  anomaly_images: images may come from public addresses and from 10.1.0.0/16" in patient.said()
    for wrong in ('{"conn_type": "http", "extra": {"allow_networks": ["10.1.0.0/99"]}}', '{"conn_type": '):
        patient.set("AIRFLOW_CONN_ANOMALY_IMAGES", wrong)
        [line] = patient.bad()
        assert line.startswith("BAD anomaly_images: ")


def test_receivers_of_notifications_are_named_and_what_cannot_be_used_is_bad(patient: Patient) -> None:
    secret = "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw"  # noqa: S105  # made up
    patient.set("AIRFLOW_CONN_ANOMALY_WEBHOOK", f'{{"conn_type": "http", "host": "https://hooks.example/a/path", "password": "{secret}"}}')
    chat = "airflow.providers.http.notifications.http.HttpNotifier"
    environ = {"ANOMALY_NOTIFY_OF": "run.failed", "ANOMALY_NOTIFIERS": f'{{"{chat}": {{"http_conn_id": "chat"}}}}'}
    assert patient.said(environ)[-1] == f"ok  notifications: run.failed by the webhook at hooks.example and {chat}"
    patient.set("AIRFLOW_CONN_ANOMALY_WEBHOOK", "https://hooks.example")
    assert "BAD notifications: the secret of the webhook must be whsec_" in patient.said()[-1]
    patient.set("AIRFLOW_CONN_ANOMALY_WEBHOOK", None)
    assert "BAD notifications: ANOMALY_NOTIFIERS must be a JSON object" in patient.said({"ANOMALY_NOTIFIERS": "smtp"})[-1]


# ── settings and the command


def test_every_setting_that_is_refused_is_told_and_the_others_count() -> None:
    environ = {"ANOMALY_LEASES": "60", "ANOMALY_LEASE_S": "9", "ANOMALY_DETECTOR_SLOTS": "4", "ANOMALY_DB_POOL_MIN": "11", "PATH": "/bin"}
    settings, refused = usable_settings(environ)
    assert settings == Settings(detector_slots=4)
    assert sorted(refused) == [
        "ANOMALY_DB_POOL_MIN must not be larger than ANOMALY_DB_POOL_MAX; correct it, or unset it",
        "ANOMALY_LEASE_S must be from 10 to 3600, not 9; correct it, or unset it",
        "there is no setting ANOMALY_LEASES; did you mean ANOMALY_LEASE_S?; correct it, or unset it",
    ]


def test_settings_that_are_refused_stop_no_other_check(patient: Patient) -> None:
    said = patient.said(environ={"ANOMALY_LEASES": "60", "ANOMALY_TIMEZONE": "Mars"})
    assert [line for line in said if line.startswith("BAD")] == [
        "BAD settings: there is no setting ANOMALY_LEASES; did you mean ANOMALY_LEASE_S?; correct it, or unset it",
        "BAD settings: ANOMALY_TIMEZONE is not a time zone such as Europe/Berlin: 'Mars'",
    ]
    assert any(line.startswith("ok  anomaly_detector") for line in said)


def test_the_command_ends_with_1_where_something_is_bad_and_with_2_where_it_is_not_understood(
    patient: Patient, capsys: pytest.CaptureFixture[str]
) -> None:
    patient.set("AIRFLOW_CONN_ANOMALY_DB", None)
    assert main(["doctor"]) == 1
    assert "BAD anomaly_db: there is no connection anomaly_db" in capsys.readouterr().out
    assert main(["doctor", "--dsn", patient.database]) == 2
