"""Windows of runs: intervals in any time zone, known images, invalid windows."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from tests.dags.conftest import a_png
from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from tests.dags.conftest import World

ROOT = Path(__file__).resolve().parents[2]
BERLIN = ZoneInfo("Europe/Berlin")
DAILY = {"ANOMALY_SCHEDULE": "0 0 * * *", "ANOMALY_TIMEZONE": "Europe/Berlin"}

# Prints the intervals whose starts are in a range, as the scheduler asks the DAG's timetable for them.
INTERVALS = """
import json, sys
import pendulum
sys.path.insert(0, sys.argv[1])
from anomaly_detection import anomaly_detection
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.base import TimeRestriction
timetable = coerce_to_core_timetable(anomaly_detection.timetable)
first, last = (pendulum.parse(text) for text in sys.argv[2:4])
restriction = TimeRestriction(earliest=first, latest=last, catchup=True)
found, interval = [], None
while info := timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction):
    interval = info.data_interval
    found.append([interval.start.isoformat(), interval.end.isoformat()])
print(json.dumps(found))
"""


def intervals(home: Path, first: datetime, last: datetime, **settings: str) -> list[tuple[datetime, datetime]]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "ANOMALY", "PYTEST"))}
    env |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", **settings}
    command = [sys.executable, "-c", INTERVALS, str(ROOT / "dags"), first.isoformat(), last.isoformat()]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603  # our own text
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    return [(datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in found]


@pytest.mark.parametrize(("month", "day", "hours"), [(3, 29, 23), (10, 25, 25), (7, 1, 24)])
def test_a_day_of_a_time_zone_is_one_interval_also_when_the_clocks_change(tmp_path: Path, month: int, day: int, hours: int) -> None:
    midnight, next_midnight = (datetime(2026, month, at, tzinfo=BERLIN) for at in (day, day + 1))
    assert intervals(tmp_path, midnight, midnight, **DAILY) == [(midnight, next_midnight)]
    assert next_midnight.timestamp() - midnight.timestamp() == hours * 3600


@pytest.mark.parametrize(("month", "day", "quarters"), [(3, 29, 92), (10, 25, 100)])
def test_quarter_hours_leave_no_gap_and_no_overlap_when_the_clocks_change(tmp_path: Path, month: int, day: int, quarters: int) -> None:
    first, last = datetime(2026, month, day, tzinfo=BERLIN), datetime(2026, month, day, 23, 45, tzinfo=BERLIN)
    found = intervals(tmp_path, first, last, ANOMALY_TIMEZONE="Europe/Berlin")
    assert all(before[1] == after[0] for before, after in itertools.pairwise(found))
    assert {end.timestamp() - start.timestamp() for start, end in found} == {900}
    assert len(found) == quarters


def test_the_schedule_is_every_quarter_of_an_hour_in_utc_unless_it_is_set(tmp_path: Path) -> None:
    start = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    found = intervals(tmp_path, start, start + timedelta(days=1))
    assert len(found) == 97
    assert found[0] == (start, start + timedelta(minutes=15))


def test_a_manual_window_takes_what_was_captured_from_its_start_to_before_its_end(world: World) -> None:
    ids = world.add(4)
    at = ["2026-03-29T00:59:59.999999+01:00", "2026-03-29T01:00:00+01:00", "2026-03-29T03:29:59+02:00", "2026-03-29T03:30:00+02:00"]
    for record_id, captured_at in zip(ids, at, strict=True):
        world.sql.execute("update anomaly.records set captured_at = %s where id = %s", [captured_at, record_id])
    world.run(window_start="2026-03-29T01:00:00+01:00", window_end="2026-03-29T03:30:00+02:00")
    assert [world.record(record_id)["status"] for record_id in ids] == ["pending", "done", "done", "pending"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_window_in_the_future_is_refused_and_nothing_changes(world: World, *, dry_run: bool) -> None:
    world.add(3)
    ended = world.run(window_start="2999-01-01T00:00:00Z", window_end="2999-01-02T00:00:00Z", dry_run=dry_run)
    assert ended.state == "failed"
    assert ended.tasks["claim"] == ("failed", 1)
    assert "the window starts in the future (2999-01-01T00:00:00+00:00)" in ended.output
    assert world.counted("records", "token") == {0: 3}


def test_an_image_that_another_record_had_is_not_paid_for_again_unless_a_fresh_answer_is_wanted(world: World) -> None:
    same = Reply(body=a_png(7), content_type="image/png")
    for _ in range(3):
        world.add_one(same)
    world.run()
    world.add_one(same)
    world.run()
    assert len(world.stub.asked("/detect")) == 1
    assert world.counted("ai_results", "reused") == {False: 1, True: 3}
    assert len(world.counted("ai_results", "answer_key")) == 1
    world.add_one(same)
    world.run(fresh=True)
    assert len(world.stub.asked("/detect")) == 2
    assert world.counted("ai_results", "reused") == {False: 2, True: 3}
    assert len(world.counted("ai_results", "answer_key")) == 2


@pytest.mark.parametrize(("headers", "asked"), [({}, 2), ({"X-Model": "b"}, 4)])
def test_another_mapping_reads_archived_answers_anew_another_configuration_is_asked_and_the_results_of_both_stay(
    world: World, headers: dict[str, str], asked: int
) -> None:
    world.add(2)
    world.run()
    detector = json.loads(world.env["AIRFLOW_CONN_ANOMALY_DETECTOR"])
    detector["extra"] |= {"threshold": 0.2, "model": "stricter", "headers": headers}
    world.run(select="all", env={"AIRFLOW_CONN_ANOMALY_DETECTOR": json.dumps(detector)})
    assert len(world.stub.asked("/detect")) == asked
    assert world.counted("ai_results", "reused") == ({False: 2, True: 2} if asked == 2 else {False: 4})
    assert world.counted("ai_results", "is_anomaly") == {False: 2, True: 2}
    assert world.counted("ai_flags", "is_anomaly") == {True: 2}
    compared = world.sql.execute("select * from anomaly.compare_detectors('127.0.0.1@unversioned', 'stricter@unversioned')").fetchone()
    assert compared
    assert (compared["records"], compared["first_anomalies"], compared["second_anomalies"], compared["only_second"]) == (2, 0, 2, 2)


def test_a_failed_re_score_leaves_the_record_done_with_its_earlier_result(world: World) -> None:
    [record_id] = world.add(1)
    world.run()
    world.detector(Reply(status=422))
    world.run(select="all", fresh=True)
    assert world.record(record_id)["status"] == "done"
    assert world.counted("ai_results", "is_anomaly") == {False: 1}
    assert world.counted("ai_flags", "is_anomaly") == {False: 1}


def test_a_dry_run_tells_the_cost_where_the_connection_states_a_price(world: World) -> None:
    world.add(12)
    detector = json.loads(world.env["AIRFLOW_CONN_ANOMALY_DETECTOR"])
    detector["extra"]["price"] = 0.0025
    report = world.report(world.run(dry_run=True, env={"AIRFLOW_CONN_ANOMALY_DETECTOR": json.dumps(detector)}))
    assert report["expected_cost"] == 0.03
    assert world.report(world.run(dry_run=True))["expected_cost"] is None
    assert world.stub.asked("/detect") == []
