"""Connections are read as Airflow reads them."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import Connection

from anomaly.connection_env import read
from anomaly.errors import Misconfigured

URIS = [
    "postgresql://user:p%40ss%2Fword@db.example:5433/records?sslmode=require&application_name=a%20b",
    "postgres://db.example/records",
    "postgresql://user@db.example",
    "aws://AKIA:s%2Fecret@/?__extra__=%7B%22bucket%22%3A%20%22b%22%2C%20%22n%22%3A%20%7B%22m%22%3A%201%7D%7D",
    "http://https://detector.example:8443/path?dialect=generic",
    "http://detector.example:80",
]
VALUES = [
    {"conn_type": "http", "host": "detector.example", "port": 80, "extra": {"dialect": "generic"}},
    {"conn_type": "aws", "login": "a", "password": "b-long-one", "port": "9000", "extra": '{"bucket": "b"}'},
    {"conn_type": "postgres", "schema": "records"},
]


def parts_of(connection: Connection) -> tuple[object, ...]:
    return (
        connection.host or None,
        connection.port,
        connection.login or None,
        connection.password or None,
        connection.schema or None,
        connection.extra_dejson,
    )


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_means_what_it_means_to_airflow(uri: str) -> None:
    given = read("AIRFLOW_CONN_X", uri)
    theirs = Connection.from_uri(uri, conn_id="x")
    assert (given.host, given.port, given.login, given.password, given.schema, given.extra) == parts_of(theirs)


@pytest.mark.parametrize("value", VALUES)
def test_json_means_what_it_means_to_airflow(value: dict[str, object]) -> None:
    given = read("AIRFLOW_CONN_X", json.dumps(value))
    theirs = Connection.from_json(json.dumps(value), conn_id="x")
    assert (given.host, given.port, given.login, given.password, given.schema, given.extra) == parts_of(theirs)


@pytest.mark.parametrize("value", ['{"conn_type": "aws"', "[]", "no uri", '{"port": "many"}', "http://host:port", '{"extra": "no json"}'])
def test_what_is_neither_is_refused_by_the_name_of_the_variable_and_not_shown(value: str) -> None:
    with pytest.raises(Misconfigured, match=r"^AIRFLOW_CONN_X is neither a connection URI nor JSON") as caught:
        read("AIRFLOW_CONN_X", value)
    assert value not in str(caught.value)


def test_a_password_is_in_no_representation() -> None:
    assert "hidden" not in repr(read("AIRFLOW_CONN_X", "postgres://u:hidden@h/d"))
