"""Any value of a connection is used, or refused with a sentence: by the tasks and by the check of the environment alike."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from anomaly import connection_env, connections
from anomaly.connection_env import DB, DETECTOR, IMAGES, S3
from anomaly.errors import AnomalyError, Misconfigured
from anomaly.escaping import escaped
from anomaly.settings import Settings
from tests.parts.fuzzing import fuzz

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = Settings(db_connect_timeout_s=1, detector_connect_timeout_s=1)
NOWHERE = "http://127.0.0.1:1"
GOOD: dict[str, dict[str, Any]] = {
    DB: {"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "u", "password": "p", "schema": "d"},
    S3: {"conn_type": "aws", "login": "k", "password": "s", "extra": {"bucket": "b", "endpoint_url": NOWHERE, "region_name": "us-east-1"}},
    DETECTOR: {"conn_type": "http", "host": "http://127.0.0.1", "port": 1, "extra": {"dialect": "generic"}},
    IMAGES: {"conn_type": "http", "extra": {}},
}
EXTRAS: dict[str, tuple[str, ...]] = {
    DB: (
        "sslmode",
        "connect_timeout",
        "options",
        "cursor",
        "iam",
        "host",
        "port",
        "user",
        "dbname",
        "service",
        "client_encoding",
        "hostaddr",
    ),
    S3: ("bucket", "prefix", "region_name", "endpoint_url", "config_kwargs", "verify", "service_config", "profile_name", "role_arn"),
    DETECTOR: ("dialect", "path", "headers"),
    IMAGES: ("headers", "hosts", "allow_networks", "allow_ports", "proxy"),
}
OPTIONS = ("s3", "addressing_style", "retries", "read_timeout", "max_pool_connections", "proxies", "signature_version", "X-Key")
TEXT = st.text(st.characters(), max_size=20)
ODD: tuple[Any, ...] = (
    *(10**400, 0, 1, -1, 0.5, float("nan"), float("inf"), "\ud800", "a\0b", "a\nb", "\u2028", "\x1b[31m", "a" * 300, "9" * 5000),
    *(NOWHERE, "http://[", "127.0.0.0/8", "10.0.0.0/33", "::/0", "8000-8999", "0-99999", "\u00b2", "1-\u00b2", "us-east-1", "path"),
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.sampled_from(ODD))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(OPTIONS), inner, max_size=3), max_leaves=8
)
HOSTS: tuple[Any, ...] = (
    *(None, "", "127.0.0.1", "http://[", "a b", "http://127.0.0.1:99999", "https://u:p@127.0.0.1/x?y#z", "//x", "\ud800", "\u2100.com"),
    *("::1", "[::1]", "http://", 0.5, [], {}),
)
PORTS: tuple[Any, ...] = (None, 1, "1", "x", 0, -1, 70000, 1.5, True, [], 10**400, "\u00b2")


def open_detector() -> None:
    with connections.detector("anomaly_detector", SETTINGS):
        pass


def open_images() -> None:
    with connections.image_source(SETTINGS):
        pass


IN_TASKS: dict[str, Callable[[], Any]] = {
    DB: connections.records_dsn,
    S3: lambda: connections.bucket(SETTINGS),
    DETECTOR: open_detector,
    IMAGES: open_images,
}


def refusals(variable: str, value: Any) -> list[str]:
    """Use a connection as tasks do and as the check of the environment does; return the sentences of what refuses it."""
    sentences = []
    os.environ[variable] = text = json.dumps(value)
    in_environment = (
        (lambda: connection_env.records_dsn({DB: text})) if variable == DB else (lambda: connection_env.check({variable: text}))
    )
    for use in (IN_TASKS[variable], in_environment):
        try:
            use()
        except AnomalyError as exc:
            assert str(exc) == escaped(str(exc))  # noqa: PT017  # some values are right
            sentences.append(str(exc))
    return sentences


@pytest.fixture(autouse=True)
def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is looked up, and the variables are restored."""
    look_up = socket.getaddrinfo

    def look_up_here(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in {"127.0.0.1", "::1"}:
            raise socket.gaierror("not in this test")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up_here)
    for variable in GOOD:
        monkeypatch.setenv(variable, "")


@fuzz(st.sampled_from(list(GOOD)), st.data(), examples=100)
def test_values_of_any_kind_are_used_or_refused_with_a_sentence(variable: str, data: st.DataObject) -> None:
    value = dict(GOOD[variable])
    extra = data.draw(st.dictionaries(st.sampled_from(EXTRAS[variable]) | TEXT, VALUES, max_size=2) | VALUES)
    value["extra"] = {**value.get("extra", {}), **extra} if isinstance(extra, dict) else extra
    for name in data.draw(st.lists(st.sampled_from(["host", "port", "login", "password", "schema", "conn_type"]), max_size=2)):
        value[name] = data.draw(st.sampled_from(PORTS) if name == "port" else st.sampled_from(HOSTS) | VALUES)
    assert len(refusals(variable, value)) <= 2


@pytest.mark.parametrize(
    ("variable", "changed"),
    [
        (DB, {"extra": ["sslmode"]}),
        (DB, {"extra": {"": None}}),
        (DB, {"extra": {"sslmod": "require"}}),
        (DB, {"password": "\ud800"}),
        (S3, {"extra": "bucket"}),
        (S3, {"extra": [1]}),
        (DETECTOR, {"extra": 429}),
        (DETECTOR, {"host": "http://["}),
        (DETECTOR, {"host": "\u2100.com"}),
        (DETECTOR, {"host": "http://127.0.0.1", "port": 70000}),
        (DETECTOR, {"host": 0.5}),
        (IMAGES, {"extra": ["127.0.0.0/8"]}),
        (IMAGES, {"host": "http://["}),
        (IMAGES, {"extra": {"allow_ports": ["\u00b2"]}}),
        (IMAGES, {"extra": {"allow_networks": [10**400]}}),
        (IMAGES, {"extra": {"hosts": [None]}}),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_the_tasks(variable: str, changed: dict[str, Any]) -> None:
    os.environ[variable] = json.dumps(GOOD[variable] | {"password": "hunter2x"} | changed)
    with pytest.raises(Misconfigured) as caught:
        IN_TASKS[variable]()
    assert "hunter2x" not in str(caught.value)


def test_an_extra_of_the_database_takes_precedence_over_a_field_as_in_the_hook() -> None:
    text = json.dumps(GOOD[DB] | {"extra": {"dbname": "other", "user": "someone"}})
    os.environ[DB] = text
    for dsn in (connections.records_dsn(), connection_env.records_dsn({DB: text})):
        assert "dbname=other" in dsn
        assert "user=someone" in dsn
