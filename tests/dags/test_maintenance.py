"""The maintenance DAG: quarantined records get another life on somebody's word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from tests.dags.conftest import World

MAINTENANCE = """
import __main__
__main__.dag = __main__.bag.dags["anomaly_maintenance"]
"""


def quarantined(world: World) -> list[int]:
    """Two records without an image, and one whose image is none."""
    ids = [world.add_one(Reply(status=404)), world.add_one(Reply(status=404)), world.add_one(Reply(body=b"sorry"))]
    assert world.run().state == "success"
    assert world.statuses() == {"quarantined": 3}
    return ids


def test_records_are_requeued_by_code_after_a_look_at_what_that_would_be(world: World) -> None:
    ids = quarantined(world)
    looked = world.run(before=MAINTENANCE, error_code="image_not_found")
    assert looked.state == "success"
    assert "records requeued count=0 actor=dag_test chosen={'image_not_found': 2}" in looked.output
    assert world.statuses() == {"quarantined": 3}
    done = world.run(before=MAINTENANCE, error_code="image_not_found", dry_run=False)
    assert done.state == "success"
    assert [world.record(record_id)["status"] for record_id in ids] == ["pending", "pending", "quarantined"]
    logged = world.sql.execute("select record_id, actor from anomaly.processing_log where event = 'requeued' order by 1").fetchall()
    assert [(row["record_id"], row["actor"]) for row in logged] == [(ids[0], "dag_test"), (ids[1], "dag_test")]


def test_records_are_requeued_by_id_and_by_window(world: World) -> None:
    ids = quarantined(world)
    world.run(before=MAINTENANCE, record_ids=[ids[2]], dry_run=False)
    assert world.statuses() == {"quarantined": 2, "pending": 1}
    world.sql.execute("update anomaly.records set captured_at = '2026-01-05' where id = %s", [ids[0]])
    world.run(before=MAINTENANCE, window_start="2026-01-05T00:00:00Z", window_end="2026-01-06T00:00:00Z", dry_run=False)
    assert [world.record(record_id)["status"] for record_id in ids] == ["pending", "quarantined", "pending"]


def test_a_request_that_says_nothing_or_makes_no_sense_is_refused(world: World) -> None:
    quarantined(world)
    everything = world.run(before=MAINTENANCE + "__main__.dag.get_task('requeue').retries = 0", dry_run=False)
    assert everything.state == "failed"
    assert "say which quarantined records: by error_code, by window_start and window_end, or by record_ids" in everything.output
    assert world.statuses() == {"quarantined": 3}
