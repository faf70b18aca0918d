from __future__ import annotations

import hashlib
import itertools
import json
from typing import TYPE_CHECKING

from tests.dags.conftest import ANSWER, SECRET, a_png
from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dags.conftest import World
    from tests.parts.http_stub import Seen

FAILING_ONCE = """
import anomaly.tasks.detection as tasks
dag.get_task("claim").retries = 0
claim = tasks.runs.claim
def claim_and_die(*args, **kwargs):
    claim(*args, **kwargs)
    raise RuntimeError("died after its commit")
tasks.runs.claim = claim_and_die
"""
OUTAGES = """
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from airflow.sdk.execution_time.context import OutletEventAccessors
def fail(*args, **kwargs):
    raise RuntimeError("not to be had")
stats.incr = stats.gauge = stats.timing = fail
OutletEventAccessors.__getitem__ = fail
call = BaseClient._make_api_call
def refuse_some(self, operation, params):
    if "/runs/" in params.get("Key", "") or "/heatmaps/" in params.get("Key", ""):
        raise ClientError({"Error": {"Code": "SlowDown"}}, operation)
    return call(self, operation, params)
BaseClient._make_api_call = refuse_some
from anomaly.archive.obstore_puts import ObstorePuts
create = ObstorePuts.create
ObstorePuts.create = lambda self, key, *args: "/heatmaps/" not in key and create(self, key, *args)
"""

GARBAGE = """
import gc
from pathlib import Path
from anomaly.pipeline.drain import Pipeline
drain = Pipeline.drain
def count_and_drain(self):
    Path({file!r}).write_text(f"{{gc.get_freeze_count()}} {{len(gc.get_objects())}}")
    drain(self)
Pipeline.drain = count_and_drain
"""


def test_a_run_takes_every_due_record_to_its_verdict(world: World) -> None:
    ids = world.add(20)
    ended = world.run(chunk_size=5)
    assert ended.state == "success"
    assert world.statuses() == {"done": 20}
    assert world.counted("ai_results", "is_anomaly") == {False: 20}
    assert world.counted("processing_log", "event") == {"committed": 20}
    assert world.counted("ai_flags", "ai_processed") == {True: 20}
    row = world.sql.execute("select * from anomaly.ai_results where record_id = %s", [ids[0]]).fetchone()
    assert row
    assert row["image_sha256"] == hashlib.sha256(a_png(0)).hexdigest()
    assert world.bucket.get(row["image_key"].removeprefix(f"{world.bucket.prefix}/")) == a_png(0)
    assert world.bucket.get(row["answer_key"].removeprefix(f"{world.bucket.prefix}/")) == ANSWER.body


def test_one_run_drains_a_window_of_five_batches_with_few_tasks_and_a_small_xcom(world: World) -> None:
    image = world.stub.at("/same", Reply(body=a_png(), content_type="image/png"))
    world.sql.execute(
        "insert into anomaly.records (image_url, captured_at) select %s, now() - interval '1 hour' from generate_series(1, 2000)", [image]
    )
    ended = world.run(batch_size=400, chunk_size=50)
    assert ended.state == "success"
    assert world.statuses() == {"done": 2000}
    assert sum(name.startswith("process") for name in ended.tasks) == 8
    assert ended.xcom_bytes < 4096
    assert world.report(ended)["events"] == {"committed": 2000}


def test_what_airflow_imported_is_not_looked_at_again_while_a_task_works(world: World, tmp_path: Path) -> None:
    """A collection of garbage stops every thread for as long as it looks."""
    world.add(1)
    assert world.run(before=GARBAGE.format(file=str(tmp_path / "counted"))).state == "success"
    frozen, looked_at = map(int, (tmp_path / "counted").read_text().split())
    assert frozen > 100_000
    assert looked_at < frozen / 4


def test_max_records_bounds_a_run(world: World) -> None:
    world.add(12)
    world.run(batch_size=4, chunk_size=2, max_records=7)
    assert world.statuses() == {"done": 7, "pending": 5}


def test_a_run_with_nothing_due_is_green(world: World) -> None:
    ended = world.run()
    assert ended.state == "success"
    assert world.report(ended)["events"] == {}


def test_what_a_first_try_leaves_the_second_one_does_and_the_report_counts_as_sql_does(world: World) -> None:
    world.add(10)
    count = itertools.count()
    world.detector(lambda seen: Reply(status=500) if seen.body == a_png(3) and next(count) < 3 else ANSWER)
    ended = world.run(chunk_size=10)
    assert ended.state == "success"
    assert ended.tasks["process_0"] == ("success", 2)
    report = world.report(ended)
    assert report["events"] == world.counted("processing_log", "event")
    assert report["statuses"] == world.statuses() == {"done": 10}
    assert set(world.counted("records", "attempts")) == {1}


def test_an_outage_of_the_detector_fails_the_run_and_uses_up_no_attempt(world: World) -> None:
    world.add(30)
    world.detector(Reply(status=502))
    ended = world.run(chunk_size=15)
    assert ended.state == "failed"
    assert ended.tasks["process_0"] == ("failed", 4)
    assert ended.tasks["report"][0] == "failed"
    assert world.statuses() == {"pending": 30}
    assert world.counted("records", "attempts") == {0: 30}


def test_a_detector_that_denies_us_fails_the_run_at_once_and_nothing_stays_claimed(world: World) -> None:
    world.add(30)
    world.detector(Reply(status=401))
    ended = world.run(chunk_size=15)
    assert ended.state == "failed"
    assert ended.tasks["process_0"] == ("failed", 1)
    assert world.statuses() == {"pending": 30}
    assert world.counted("records", "attempts") == {0: 30}


def test_a_claim_that_dies_after_its_commit_fails_the_run_and_nothing_stays_claimed(world: World) -> None:
    world.add(30)
    ended = world.run(before=FAILING_ONCE)
    assert ended.state == "failed"
    assert ended.tasks["claim"] == ("failed", 1)
    assert world.statuses() == {"pending": 30}


def test_too_many_failures_fail_the_run_and_the_good_records_are_done(world: World) -> None:
    world.add(3)
    world.add_one(Reply(status=404))
    ended = world.run(max_failure_rate=0.2)
    assert ended.state == "failed"
    assert "1 of 4 records failed, more than max_failure_rate=0.2 allows" in ended.output
    assert world.statuses() == {"done": 3, "quarantined": 1}


def test_bad_images_end_with_their_reason_and_the_others_are_done(world: World) -> None:
    good = world.add(5)
    png = a_png(99)
    bad = {
        world.add_one(Reply(status=404)): "image_not_found",
        world.add_one(Reply(body=b"<html>sorry</html>", content_type="image/png")): "image_not_an_image",
        world.add_one(Reply(body=b"", content_type="image/png")): "image_not_an_image",
        world.add_one(Reply(body=png[:-20], content_type="image/png")): "image_truncated",
        world.add_one(Reply(body=png + b"\0" * 3000, content_type="image/png")): "image_too_large",
        world.add_one(Reply(body=_wide_png(), content_type="image/png")): "image_too_many_pixels",
    }
    ended = world.run(max_failure_rate=1.0, env={"ANOMALY_IMAGE_MAX_BYTES": "3000", "ANOMALY_IMAGE_MAX_PX": "1000"})
    assert ended.state == "success"
    assert {record_id: world.record(record_id)["last_error_code"] for record_id in bad} == bad
    assert {world.record(record_id)["status"] for record_id in bad} == {"quarantined"}
    assert {world.record(record_id)["status"] for record_id in good} == {"done"}


def _wide_png() -> bytes:
    import io  # noqa: PLC0415  # as the next one

    from PIL import Image  # noqa: PLC0415  # only here

    out = io.BytesIO()
    Image.new("1", (100, 100)).save(out, "PNG")
    return out.getvalue()


def test_what_is_not_the_job_never_stops_it(world: World) -> None:
    world.add(10)
    heatmap = {"heatmap": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="}
    world.detector(Reply(body=json.dumps({"score": 1.0, "is_anomaly": True, **heatmap}).encode(), content_type="application/json"))
    detector = json.loads(world.env["AIRFLOW_CONN_ANOMALY_DETECTOR"])
    detector["extra"]["answer"] = {"score": "score", "is_anomaly": "is_anomaly", "heatmap": "heatmap"}
    ended = world.run(before=OUTAGES, chunk_size=10, env={"AIRFLOW_CONN_ANOMALY_DETECTOR": json.dumps(detector)})
    assert ended.state == "success"
    assert world.statuses() == {"done": 10}
    warnings = [line for line in world.log().splitlines() if " WARNING " in line]
    assert sum("metrics not sent" in line for line in warnings) == len(("claim", "process", "report"))
    for what in ("the run's folder was not made", "the run's report was not archived", "no event for the results asset"):
        assert sum(what in line for line in warnings) == 1, what
    assert sum("heat map" in line for line in warnings) == 10
    assert world.counted("ai_results", "heatmap_key") == {None: 10}


def test_the_error_that_fails_a_task_is_in_the_log_file(world: World) -> None:
    world.add(1)
    world.detector(Reply(status=401, body=b'{"detail": "the key was revoked"}', content_type="application/json"))
    assert world.run().state == "failed"
    errors = [line for line in world.log().splitlines() if " ERROR " in line]
    assert sum("task failed DetectorDenied: " in line and "the key was revoked" in line for line in errors) == 1


def test_the_log_file_tells_everything_and_no_secret(world: World) -> None:
    world.add(5)
    world.add_one(Reply(status=404))
    world.add_one(Reply(status=503), Reply(body=a_png(77), content_type="image/png"))
    count = itertools.count()
    world.detector(lambda _: Reply(status=500, body=SECRET.encode()) if next(count) == 0 else ANSWER)
    ended = world.run()
    assert ended.state == "success"
    text = world.log()
    for said in (
        "DEBUG",
        "database pool:",
        "took_ms=",
        "detector is asked again",
        "record quarantined",
        "chunk worked",
        "p50=",
        "p95=",
        "run report",
    ):
        assert said in text, said
    assert "chunk worked" in ended.output
    assert "database pool:" not in ended.output
    for where in (text, ended.output):
        assert SECRET not in where
        assert world.sql.info.password not in where
        assert json.loads(world.env["AIRFLOW_CONN_ANOMALY_S3"])["password"] not in where
        assert "IHDR" not in where
    report = world.report(ended)
    assert set(report["chunks"]["0"]["timings_ms"]) >= {"fetch", "detect", "archive", "commit"}
    assert set(report["timings_ms"]) >= {"fetch", "detect", "archive"}


def test_a_window_that_ends_before_it_starts_is_refused_and_nothing_changes(world: World) -> None:
    world.add(3)
    ended = world.run(window_start="2026-02-01T00:00:00Z", window_end="2026-01-01T00:00:00Z")
    assert ended.state == "failed"
    assert ended.tasks["claim"] == ("failed", 1)
    assert "the window ends (2026-01-01T00:00:00+00:00) before it starts (2026-02-01T00:00:00+00:00)" in ended.output
    assert world.statuses() == {"pending": 3}


def test_a_missing_connection_is_named_and_nothing_changes(world: World) -> None:
    world.add(3)
    ended = world.run(detector="nobody")
    assert ended.state == "failed"
    assert ended.tasks["claim"] == ("failed", 1)
    assert "there is no connection nobody: add it in Airflow's UI" in ended.output
    assert world.counted("records", "token") == {0: 3}


def test_a_missing_bucket_is_named_and_nothing_changes(world: World) -> None:
    world.add(3)
    bucket = json.loads(world.env["AIRFLOW_CONN_ANOMALY_S3"])
    bucket["extra"]["bucket"] = "nowhere"
    ended = world.run(env={"AIRFLOW_CONN_ANOMALY_S3": json.dumps(bucket)})
    assert ended.state == "failed"
    assert "there is no such bucket: 'nowhere'" in ended.output
    assert world.counted("records", "token") == {0: 3}


def test_a_bad_setting_is_named_and_nothing_changes(world: World) -> None:
    world.add(3)
    ended = world.run(env={"ANOMALY_LEASE_S": "abc"})
    assert ended.state == "failed"
    assert "ANOMALY_LEASE_S must be a number, not 'abc'" in ended.output
    assert world.counted("records", "token") == {0: 3}


def test_select_all_scores_again_and_reuses_what_the_same_detector_said_unless_it_is_to_be_fresh(world: World) -> None:
    world.add(4)
    world.run()
    world.run(select="all")
    assert world.counted("ai_results", "reused") == {False: 4, True: 4}
    assert len(world.stub.asked("/detect")) == 4
    world.run(select="all", fresh=True)
    assert world.counted("ai_results", "reused") == {False: 8, True: 4}
    assert len(world.stub.asked("/detect")) == 8


def test_select_failed_gives_quarantined_records_another_life(world: World) -> None:
    record_id = world.add_one(Reply(status=404), Reply(body=a_png(), content_type="image/png"))
    world.run()
    assert world.statuses() == {"quarantined": 1}
    world.run(select="failed")
    assert world.statuses() == {"done": 1}
    assert world.record(record_id)["attempts"] == 1


def test_a_dry_run_counts_what_a_run_would_take_and_changes_nothing(world: World) -> None:
    world.add(12)
    first = world.report(world.run(dry_run=True, chunk_size=5))
    assert (first["due"], first["chunks"], first["expected_s"]) == ({"pending": 12, "quarantined": 0, "done": 0}, 3, None)
    assert world.counted("records", "token") == {0: 12}
    world.run(max_records=4)  # too few to measure a rate
    second = world.report(world.run(dry_run=True, select="all", max_records=10))
    assert (second["due"], second["records"]) == ({"pending": 8, "quarantined": 0, "done": 4}, 10)
    assert second["expected_s"] is None
    world.sql.execute("update anomaly.batches set claimed = 400")
    world.sql.execute(
        """update anomaly.chunks
              set tally = '{"ended": {"committed": 400}}', opened_at = ended_at - interval '10 s'
            where ended_at is not null"""
    )
    third = world.report(world.run(dry_run=True, select="all", max_records=10, chunk_size=5))
    assert (third["chunks"], third["expected_s"]) == (2, round(10 / (2 * 40), 1))


def test_records_whose_first_answer_fails_for_now_are_all_done_in_the_same_run(world: World) -> None:
    world.add(50)
    unlucky = {a_png(number) for number in range(0, 50, 5)}
    failed: set[bytes] = set()

    def first_answer_fails(seen: Seen) -> Reply:
        if seen.body in unlucky and seen.body not in failed:
            failed.add(seen.body)
            return Reply(status=503)
        return ANSWER

    world.detector(first_answer_fails)
    ended = world.run(chunk_size=25)
    assert failed == unlucky
    assert ended.state == "success"
    assert world.statuses() == {"done": 50}
    assert {name: tries for name, (_, tries) in ended.tasks.items()} == {"claim": 1, "process_0": 1, "process_1": 1, "report": 1}
