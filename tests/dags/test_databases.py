"""Runs of the real DAG on databases behind a pooler, in other encodings, with other defaults, and on one that is read-only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from anomaly.db.schema import migrate
from tests.dags.conftest import a_png, a_world
from tests.parts.http_stub import Reply
from tests.parts.pgbouncer import PgBouncer

if TYPE_CHECKING:
    from pathlib import Path

    from embedded.postgres import Postgres
    from embedded.s3 import S3
    from tests.dags.conftest import World
    from tests.parts.dag_runs import DagRuns

LABELLED = {"dialect": "generic", "path": "/detect", "answer": {"score": "score", "label": "label"}, "threshold": 0.5}

REFUSED = a_png(65_000)


def in_german(status: int = 200, **answer: object) -> Reply:
    return Reply(status=status, body=json.dumps(answer, ensure_ascii=False).encode(), content_type="application/json")


def altered(env: dict[str, str], variable: str, **fields: object) -> dict[str, str]:
    return {variable: json.dumps(json.loads(env[variable]) | fields)}


def test_a_run_behind_a_pooler_in_transaction_mode_with_few_sessions_is_green(world: World, postgres: Postgres, tmp_path: Path) -> None:
    world.add(60)
    with PgBouncer(tmp_path / "pgbouncer", postgres, mode="transaction", default_pool_size=3) as pooler:
        ended = world.run(env=altered(world.env, "AIRFLOW_CONN_ANOMALY_DB", port=pooler.port), batch_size=60, chunk_size=15)
    assert ended.state == "success"
    assert world.statuses() == {"done": 60}
    assert world.counted("ai_results", "reused") == {False: 60}
    assert "a pooler that lends sessions" in world.log()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_labels_and_errors_that_the_encoding_lacks_cost_no_verdict(
    dag_runs: DagRuns, postgres: Postgres, s3: S3, tmp_path: Path, encoding: str
) -> None:
    name = f"dags_{encoding.lower()}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        made = SQL("create database {} template template0 encoding {} lc_collate 'C' lc_ctype 'C'")
        admin.execute(made.format(Identifier(name), encoding))
    migrate(postgres.dsn(name))
    dsn = f"{postgres.dsn(name)}?client_encoding=utf8"
    with a_world(dag_runs, dsn, s3, tmp_path) as world:
        world.add(5)
        bad = world.add_one(Reply(body=REFUSED, content_type="image/png"))
        refusal, verdict = in_german(422, detail="Riss ≥ 2 mm"), in_german(score=0.75, label="größer ≥ 2 mm")
        world.detector(lambda seen: refusal if seen.body == REFUSED else verdict)
        ended = world.run(env=altered(world.env, "AIRFLOW_CONN_ANOMALY_DETECTOR", extra=LABELLED))
        assert (ended.state, world.statuses()) == ("success", {"done": 5, "quarantined": 1})
        at_least = "≥" if encoding == "SQL_ASCII" else "?"
        assert world.counted("ai_results", "label") == {f"größer {at_least} 2 mm": 5}
        assert f"Riss {at_least} 2 mm" in world.record(bad)["last_error"]
    postgres.drop_database(name)


@pytest.mark.parametrize("setting", ["DateStyle = German", "DateStyle = 'SQL, DMY'", "default_transaction_isolation = serializable"])
def test_a_run_is_green_whatever_the_defaults_of_the_database_are(world: World, setting: str) -> None:
    world.sql.execute(SQL("alter database {} set {}").format(Identifier(world.sql.info.dbname), SQL(setting)))
    world.add(5)
    assert world.run().state == "success"
    assert world.statuses() == {"done": 5}


def test_a_database_that_is_read_only_is_one_sentence_of_the_claim(world: World) -> None:
    world.add(2)
    world.sql.execute(SQL("alter database {} set default_transaction_read_only = on").format(Identifier(world.sql.info.dbname)))
    ended = world.run()
    assert (ended.state, ended.tasks["claim"]) == ("failed", ("failed", 1))
    assert "the records database is read-only" in ended.output
    assert "name the primary server, or a login that may write" in ended.output
    assert world.statuses() == {"pending": 2}
