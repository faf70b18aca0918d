"""The maintenance DAG: dry runs, retention, orphans, alert, doctor and requeueing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.tasks.context import is_dry_run
from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from tests.dags.conftest import World
    from tests.parts.dag_runs import Ended

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_TASKS = ("retention", "orphans", "alert", "vacuum_hints", "doctor", "sources", "thresholds")
KEPT = {"ANOMALY_RETENTION_LOG_DAYS": "30", "ANOMALY_RETENTION_ARCHIVE_DAYS": "30", "AIRFLOW__CORE__PARALLELISM": "4"}

MAINTENANCE = """
import __main__
__main__.dag = __main__.bag.dags["anomaly_maintenance"]
"""


def states(ended: Ended) -> dict[str, str]:
    return {task: state for task, (state, _) in ended.tasks.items()}


def tables(world: World) -> dict[str, Any]:
    names = ("records", "batches", "chunks", "ai_results", "processing_log", "ai_flags")
    return {name: world.sql.execute(f"select * from anomaly.{name} order by 1, 2").fetchall() for name in names}  # noqa: S608  # ours


def quarantined(world: World) -> list[int]:
    """Two records without an image, and one whose image is none."""
    ids = [world.add_one(Reply(status=404)), world.add_one(Reply(status=404)), world.add_one(Reply(body=b"sorry"))]
    assert world.run().state == "failed"  # since all of its records failed
    assert world.statuses() == {"quarantined": 3}
    return ids


def test_records_are_requeued_by_code_after_a_look_at_what_that_would_be(world: World) -> None:
    ids = quarantined(world)
    looked = world.run(before=MAINTENANCE, error_code="image_not_found")
    assert looked.state == "success"
    assert states(looked) == dict.fromkeys(("migrate", *DEFAULT_TASKS), "skipped") | {"requeue": "success"}
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
    everything = world.run(before=MAINTENANCE, tasks=["requeue"], dry_run=False)
    assert (everything.state, everything.tasks["requeue"]) == ("failed", ("failed", 1))
    assert "choose the quarantined records by error_code, by window_start and window_end, or by record_ids" in everything.output
    assert world.statuses() == {"quarantined": 3}


def finished_long_ago(world: World) -> None:
    world.add(2)
    assert world.run().state == "success"
    world.sql.execute("update anomaly.processing_log set at = now() - interval '31 days'")
    world.sql.execute("update anomaly.batches set updated_at = now() - interval '31 days'")


def test_a_run_that_chooses_nothing_does_all_but_migrate_and_requeue_and_changes_nothing(world: World) -> None:
    finished_long_ago(world)
    before, objects = tables(world), world.bucket.keys("")
    looked = world.run(before=MAINTENANCE, env=KEPT)
    assert states(looked) == dict.fromkeys(DEFAULT_TASKS, "success") | {"migrate": "skipped", "requeue": "skipped"}
    assert (
        "'log_entries': {'found': 2, 'deleted': 0}, 'chunks': {'found': 1, 'deleted': 0}, 'batches': {'found': 1, 'deleted': 0}"
        in looked.output
    )
    assert "table anomaly.records: ok" in looked.output
    assert "ok  anomaly_s3: objects can be deleted" in looked.output
    assert (tables(world), world.bucket.keys("")) == (before, objects)


def test_retention_deletes_what_is_old_and_leaves_results_and_young_objects(world: World) -> None:
    finished_long_ago(world)
    before, objects = tables(world), world.bucket.keys("")
    done = world.run(before=MAINTENANCE, env=KEPT, tasks=["retention"], dry_run=False)
    assert states(done) == dict.fromkeys(("migrate", *DEFAULT_TASKS, "requeue"), "skipped") | {"retention": "success"}
    gone: dict[str, Any] = {"processing_log": [], "chunks": [], "batches": []}
    assert (tables(world), world.bucket.keys("")) == (before | gone, objects)


def test_without_the_settings_nothing_is_ever_deleted(world: World) -> None:
    finished_long_ago(world)
    before = tables(world)
    assert world.run(before=MAINTENANCE, tasks=["retention"], dry_run=False).state == "success"
    assert tables(world) == before


def test_an_answer_that_is_gone_is_asked_for_again_and_the_run_is_well(world: World) -> None:
    world.add(2)
    world.run()
    for folder in ("answers", "images"):
        for key in world.bucket.keys(folder):
            world.bucket.client.delete_object(Bucket=world.bucket.name, Key=key)
    asked = len(world.stub.asked("/detect"))
    missed = world.run(before=MAINTENANCE, tasks=["orphans"])
    assert "'missing': {'keys': 4, 'elsewhere': 0, 'found': 4" in missed.output

    again = world.run(select="all")
    assert (again.state, world.statuses()) == ("success", {"done": 2})
    assert len(world.stub.asked("/detect")) == asked + 2
    assert "'missing': {'keys': 4, 'elsewhere': 0, 'found': 0" in world.run(before=MAINTENANCE, tasks=["orphans"]).output


def test_orphans_that_may_be_in_flight_stay_even_when_they_are_to_go(world: World) -> None:
    world.add(1)
    world.run()
    world.sql.execute("delete from anomaly.ai_results")
    objects = world.bucket.keys("")
    ended = world.run(before=MAINTENANCE, tasks=["orphans"], delete_orphans=True, dry_run=False)
    assert ended.state == "success"
    assert "'delete': True, 'unreferenced': {'objects': 2, 'too_young': 2, 'foreign': 0, 'found': 0" in ended.output
    assert world.bucket.keys("") == objects


def test_the_alert_is_red_once_when_a_due_record_is_too_old_and_a_dry_run_only_says_so(world: World) -> None:
    record_id = world.add_one(Reply())
    limit = {"ANOMALY_ALERT_DUE_AGE_S": "1800"}
    looked = world.run(before=MAINTENANCE, env=limit, tasks=["alert"])
    assert (looked.state, "'late': True" in looked.output) == ("success", True)
    red = world.run(before=MAINTENANCE, env=limit, tasks=["alert"], dry_run=False)
    assert (red.state, red.tasks["alert"]) == ("failed", ("failed", 1))
    assert f"record {record_id} is due and was captured 36" in red.output
    assert "more than ANOMALY_ALERT_DUE_AGE_S=1800: check that runs of anomaly_detection succeed" in red.output
    assert world.run(before=MAINTENANCE, tasks=["alert"], dry_run=False).state == "success"


def test_the_doctor_is_red_once_with_what_is_bad(world: World) -> None:
    world.detector(Reply(status=401))
    ended = world.run(before=MAINTENANCE, env=KEPT, tasks=["doctor"])
    assert (ended.state, ended.tasks["doctor"]) == ("failed", ("failed", 1))
    assert "BAD anomaly_detector: 127.0.0.1/detect answered 401" in ended.output
    assert "ok  anomaly_s3: objects can be deleted" in ended.output


def test_migrate_applies_what_is_missing_once_and_a_dry_run_lists_it(world: World) -> None:
    world.sql.execute("drop schema anomaly cascade")
    listed = world.run(before=MAINTENANCE, tasks=["migrate"])
    assert states(listed) == dict.fromkeys((*DEFAULT_TASKS, "requeue"), "skipped") | {"migrate": "success"}
    assert "migrations missing: 0001_records_and_claims, 0002_" in listed.output
    assert world.run(before=MAINTENANCE, tasks=["migrate"], dry_run=False).state == "success"
    assert world.statuses() == {}
    assert "migrations applied: none" in world.run(before=MAINTENANCE, tasks=["migrate"], dry_run=False).output


def test_where_it_is_set_every_run_migrates_before_its_other_tasks(world: World) -> None:
    world.sql.execute("drop schema anomaly cascade")
    ended = world.run(before=MAINTENANCE, env=KEPT | {"ANOMALY_AUTO_MIGRATE": "1"}, dry_run=False)
    assert states(ended) == dict.fromkeys(("migrate", *DEFAULT_TASKS), "success") | {"requeue": "skipped"}


# ── the schedule

SCHEDULE = """
import sys
sys.path.insert(0, sys.argv[1])
from anomaly_maintenance import anomaly_maintenance as dag
print(type(dag.timetable).__name__, getattr(dag.timetable, "expression", None), getattr(dag.timetable, "timezone", None), dag.catchup)
"""


@pytest.mark.parametrize(
    ("settings", "timetable"),
    [
        ({}, "NullTimetable None None False"),
        ({"ANOMALY_MAINTENANCE_SCHEDULE": ""}, "NullTimetable None None False"),
        (
            {"ANOMALY_MAINTENANCE_SCHEDULE": "30 3 * * *", "ANOMALY_TIMEZONE": "Europe/Berlin"},
            "CronTriggerTimetable 30 3 * * * Europe/Berlin False",
        ),
    ],
)
def test_it_runs_by_itself_only_where_a_schedule_is_set(tmp_path: Path, settings: dict[str, str], timetable: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY", "PYTEST"))}
    env |= {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", **settings}
    command = [sys.executable, "-c", SCHEDULE, str(ROOT / "dags")]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603  # our own text
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == timetable


@pytest.mark.parametrize(("run_type", "dry_run", "dry"), [("manual", True, True), ("manual", False, False), ("scheduled", True, False)])
def test_a_scheduled_run_does_its_work_and_any_other_what_the_form_says(run_type: str, *, dry_run: bool, dry: bool) -> None:
    context: Any = {"params": {"dry_run": dry_run}, "dag_run": SimpleNamespace(run_type=run_type)}
    assert is_dry_run(context) is dry
