"""Demo records: filled up, never duplicated, and always at the current address of the image host."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from anomaly.models.runs import batch_id_of
from embedded import demo, stale_runs
from reference_detector.dataset import Cell

IMAGES = Path("/images")
CELLS = [Cell(path=IMAGES / f"images/cell{n}.png", sha256=f"{n}", probability=float(n % 2)) for n in range(3)]
HOST = "http://127.0.0.1:9000"


def enqueue(dsn: str, waiting: int, base_url: str = HOST) -> int:
    return demo.enqueue(dsn, CELLS, base_url=base_url, waiting=waiting, images=IMAGES)


def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def test_records_point_at_the_image_host_and_have_the_experts_label(database: str) -> None:
    assert enqueue(database, 2) == 2
    assert rows(database, "select image_url, attributes, status from anomaly.records order by id") == [
        (f"{HOST}/images/cell0.png", {"demo": "images/cell0.png", "type": "mono", "defect_probability": 0.0}, "pending"),
        (f"{HOST}/images/cell1.png", {"demo": "images/cell1.png", "type": "mono", "defect_probability": 1.0}, "pending"),
    ]


def test_pending_demo_records_are_filled_up_and_not_duplicated(database: str) -> None:
    enqueue(database, 2)
    assert enqueue(database, 2) == 0
    with psycopg.connect(database) as connection:
        connection.execute("update anomaly.records set status = 'done' where id = 1")
    assert enqueue(database, 2) == 1
    assert rows(database, "select attributes ->> 'demo' from anomaly.records order by id")[-1] == ("images/cell2.png",)


def test_more_records_than_images_point_at_the_same_images_again(database: str) -> None:
    enqueue(database, 7)
    found = rows(database, "select image_url, count(*) from anomaly.records group by image_url order by image_url")
    assert [count for _, count in found] == [3, 2, 2]


def test_capture_times_are_in_the_past_week_and_all_different(database: str) -> None:
    enqueue(database, 50)
    query = "select extract(epoch from now() - captured_at)::float8 as age from anomaly.records order by age"
    ages = [age for (age,) in rows(database, query)]
    assert min(ages) >= 60
    assert max(ages) < 8 * 86_400
    assert all(later - earlier > 1 for earlier, later in pairwise(ages))


def test_only_pending_demo_records_move_to_the_new_port_of_the_image_host(database: str) -> None:
    enqueue(database, 2)
    with psycopg.connect(database) as connection:
        connection.execute("update anomaly.records set status = 'done' where id = 1")
        connection.execute("insert into anomaly.records (image_url, captured_at) values ('http://somebody.example/x.png', now())")
    enqueue(database, 1, base_url="http://127.0.0.1:9999")
    assert [url for (url,) in rows(database, "select image_url from anomaly.records order by id")] == [
        f"{HOST}/images/cell0.png",
        "http://127.0.0.1:9999/images/cell1.png",
        "http://somebody.example/x.png",
    ]


def test_stale_runs_end_and_their_leases_expire_but_no_others(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("create table dag_run (dag_id text, run_id text, state text, end_date timestamptz)")
        connection.execute("create table task_instance (dag_id text, run_id text, state text, end_date timestamptz)")
        for run_id, state in (("cut off", "running"), ("over", "success")):
            connection.execute("insert into dag_run values ('anomaly_detection', %s, %s)", [run_id, state])
            connection.execute("insert into task_instance values ('anomaly_detection', %s, 'running')", [run_id])
        for number, run_id in enumerate(("cut off", "over")):
            batch_id = batch_id_of("anomaly_detection", run_id)
            connection.execute("insert into anomaly.batches (batch_id, dag_id, run_id) values (%s, 'd', %s)", [batch_id, run_id])
            connection.execute(
                "insert into anomaly.chunks (batch_id, chunk, claimed_from, leased_until, ended_at)"
                " select %s, chunk, 'pending', now() + interval '1 hour', case when chunk %% 2 = 1 then now() end"
                " from generate_series(2 * %s, 2 * %s + 1) as chunk",
                [batch_id, number, number],
            )
    stale_runs.end_stale_runs(airflow_dsn=database, records_dsn=database)
    assert rows(database, "select run_id, state from dag_run order by 1") == [("cut off", "failed"), ("over", "success")]
    assert rows(database, "select run_id, state from task_instance order by 1") == [("cut off", "failed"), ("over", "running")]
    leased = rows(database, "select chunk, leased_until > now() from anomaly.chunks order by chunk")
    assert leased == [(0, False), (1, True), (2, True), (3, True)]


@pytest.mark.parametrize("waiting", [0, 1])
def test_enqueueing_fewer_than_are_pending_changes_nothing(database: str, waiting: int) -> None:
    enqueue(database, 2)
    assert enqueue(database, waiting) == 0
    assert rows(database, "select count(*) from anomaly.records") == [(2,)]
