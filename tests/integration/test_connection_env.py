"""The check of the connections in the environment: what is wrong with one is one sentence, without a secret."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from airflow.providers.postgres.hooks.postgres import PostgresHook
from psycopg.conninfo import conninfo_to_dict

from anomaly import connection_env
from anomaly.connection_env import DB, DETECTOR, IMAGES
from anomaly.errors import Misconfigured
from embedded import connections

if TYPE_CHECKING:
    from embedded.postgres import Postgres
    from embedded.s3 import S3

WRONG = "guessed"
UNUSED = 1  # a reserved port, on which nothing listens


def refusal(variable: str, value: str) -> str:
    with pytest.raises(Misconfigured) as caught:
        connection_env.check({variable: value})
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def s3_value(server: S3, **extra: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(connections.to_s3(server))
    value["extra"] |= extra
    return value


def test_services_that_work_pass(postgres: Postgres, s3: S3) -> None:
    with socket.create_server(("127.0.0.1", 0)) as detector:
        port = detector.getsockname()[1]
        environ = {
            DB: postgres.dsn(),
            connection_env.S3: connections.to_s3(s3),
            DETECTOR: f"http://127.0.0.1:{port}/v1?dialect=generic",
            IMAGES: connections.to_images("http://127.0.0.1:8000"),
        }
        connection_env.check(environ)


def test_what_is_not_set_is_not_asked_for() -> None:
    connection_env.check({DB: "", "HOME": "/"})


def test_the_conninfo_of_ones_own_database_leads_there(postgres: Postgres) -> None:
    value = f"{postgres.dsn('postgres')}?application_name=mine&cursor=dictcursor"
    with psycopg.connect(connection_env.records_dsn({DB: value})) as connection:
        assert connection.execute("show application_name").fetchone() == ("mine",)


def test_a_token_is_made_where_the_connection_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "eu-north-1"}.items():
        monkeypatch.setenv(name, value)
    password = conninfo_to_dict(connection_env.records_dsn({DB: "postgresql://reader@db.example/records?iam=true"}))["password"]
    assert str(password).startswith("db.example:5432/?Action=connect&DBUser=reader&X-Amz-Algorithm=")


@pytest.mark.parametrize(
    ("extra", "sentence"), [("", "no token can be made: You must specify a region"), ("&redshift=true", "the extra names redshift")]
)
def test_a_token_that_cannot_be_made_is_a_sentence(monkeypatch: pytest.MonkeyPatch, extra: str, sentence: str) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert sentence in refusal(DB, f"postgresql://reader@db.example/records?iam=true{extra}")


def test_a_database_where_nothing_listens() -> None:
    said = refusal(DB, f"postgresql://u:{WRONG}@127.0.0.1:{UNUSED}/db")
    assert said.startswith(f"{DB}: the database at 127.0.0.1:{UNUSED} cannot be used: ")
    assert WRONG not in said


def test_a_database_that_refuses_the_password(postgres: Postgres) -> None:
    said = refusal(DB, postgres.dsn().replace(postgres.password, WRONG))
    assert "password authentication failed" in said


def test_a_database_that_does_not_exist(postgres: Postgres) -> None:
    assert '"nowhere" does not exist' in refusal(DB, postgres.dsn("nowhere"))


def test_an_extra_that_postgres_does_not_know(postgres: Postgres) -> None:
    assert f"{DB} has an extra that Postgres does not know" in refusal(DB, f"{postgres.dsn()}?sslmod=require")


def test_a_bucket_that_does_not_exist(s3: S3) -> None:
    said = refusal(connection_env.S3, json.dumps(s3_value(s3, bucket="elsewhere")))
    assert said == f"the bucket elsewhere of {connection_env.S3} does not exist; create it, or name another one"


def test_keys_that_the_bucket_refuses(s3: S3) -> None:
    said = refusal(connection_env.S3, json.dumps(s3_value(s3) | {"password": WRONG}))
    assert "refuses these keys" in said


def test_an_s3_connection_without_a_bucket() -> None:
    assert 'add "bucket" to its extra' in refusal(connection_env.S3, '{"conn_type": "aws"}')


def test_an_s3_service_that_does_not_answer(s3: S3) -> None:
    said = refusal(connection_env.S3, json.dumps(s3_value(s3, endpoint_url=f"http://127.0.0.1:{UNUSED}")))
    assert said.startswith(f"{connection_env.S3}: the S3 service cannot be used")


def test_a_client_setting_that_does_not_exist(s3: S3) -> None:
    assert s3_refusal(s3, config_kwargs={"no_such": 1}).startswith(f"{connection_env.S3}: the S3 service cannot be used")


@pytest.mark.parametrize("options", ["s3=path", "%7B%22s3%22%3A+%7B%7D%7D", "1"])
def test_client_settings_as_text_in_a_uri(options: str) -> None:
    said = refusal(connection_env.S3, f"aws://key:secret@/?bucket=images&config_kwargs={options}")
    assert said == f"{connection_env.S3}: config_kwargs must be a JSON object, so write the connection as JSON; docs/operations.md shows it"


def s3_refusal(server: S3, **extra: Any) -> str:
    return refusal(connection_env.S3, json.dumps(s3_value(server, **extra)))


def test_a_detector_where_nothing_listens() -> None:
    said = refusal(DETECTOR, json.dumps({"conn_type": "http", "host": "http://127.0.0.1", "port": UNUSED}))
    assert said.startswith(f"{DETECTOR}: nothing answers at 127.0.0.1:{UNUSED}: ")


def test_a_detector_without_a_host() -> None:
    assert refusal(DETECTOR, '{"conn_type": "http"}') == f"{DETECTOR} names no host"


def test_rules_for_images_that_cannot_be_read() -> None:
    assert refusal(IMAGES, '{"conn_type": "http"').startswith(f"{IMAGES} is neither")


def test_extras_of_the_hook_are_those_that_the_hook_ignores() -> None:
    assert PostgresHook.ignored_extra_options == connection_env.HOOK_EXTRAS
