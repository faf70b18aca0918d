"""Fixtures that every level may use: real servers, started once a session, in folders that vanish."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from embedded.postgres import Postgres
from embedded.s3 import S3

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBERS = itertools.count(1)
TEMPLATE = "migrated"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """An empty server."""
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3 server with one empty bucket."""
    with S3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres: Postgres) -> str:
    """The name of a database that has the project's tables, to be cloned."""
    from anomaly.db.schema import migrate  # noqa: PLC0415  # tests that need no tables run without it

    postgres.ensure_database(TEMPLATE)
    migrate(postgres.dsn(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database(postgres: Postgres, migrated_template: str) -> Iterator[str]:
    """The DSN of a database of the test's own, with the project's tables and no rows."""
    name = f"test_{next(NUMBERS)}"
    postgres.ensure_database(name, template=migrated_template)
    yield postgres.dsn(name)
    postgres.drop_database(name)
