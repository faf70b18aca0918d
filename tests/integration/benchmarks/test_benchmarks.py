"""Tests of the benchmarks with few records: contestants do the whole job, and a wrong result is found."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import psycopg
import pytest

from benchmarks import ablation, quota, run, trace
from benchmarks.bench import Bench, JobFailed
from benchmarks.bench import work as child
from benchmarks.checkout import HERE, Checkout
from benchmarks.measuring import measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measuring import Row

RECORDS, SLOTS, LATENCY_MS = 12, 4, 20.0
SPOILED = {
    "update anomaly.records set status = 'pending' where id = 1": "not_done",
    "update anomaly.ai_results set score = score + 0.5 where record_id = 2": "wrong_results",
    "delete from anomaly.ai_results where record_id = 3": "without_result",
    "update anomaly.ai_flags set needs_review = not needs_review where record_id = 4": "not_flagged",
    "delete from anomaly.processing_log where record_id = 5": "not_logged",
}
"""Changes of the database after the work, and the name that the check gives each mistake."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("bench"), image_kb=10) as made:
        yield made


@pytest.mark.parametrize("name", ["asyncio-signed", "ours", "ours-2"])
def test_a_contestant_ends_with_one_right_result_a_record(bench: Bench, name: str) -> None:
    row = measured(bench, name)
    assert 0 < row.utilisation <= 1
    assert 0 < row.in_flight_max <= SLOTS
    assert row.tcp_images <= RECORDS


def test_the_naive_script_has_the_connections_and_round_trips_of_its_description(bench: Bench) -> None:
    before, pooled = measured(bench, "before"), measured(bench, "pooled")
    assert before.db_connections == 4 * RECORDS + 1
    assert before.db_round_trips_per_record >= 12
    assert (before.tcp_images, before.tcp_detector, before.s3_requests_per_record) == (RECORDS, RECORDS, 3)
    assert (pooled.tcp_images, pooled.tcp_detector, pooled.tcp_s3, pooled.s3_requests_per_record) == (1, 1, 1, 2)
    assert pooled.in_flight_max == 1


def test_a_contestant_with_a_wrong_result_has_no_figures(bench: Bench) -> None:
    job = bench.prepare(contestant="pooled", records=RECORDS, slots=SLOTS, latency_ms=LATENCY_MS)
    child(job)
    bench.check(job)
    with psycopg.connect(bench.direct(job), autocommit=True) as connection:
        for spoiled_by, mistake in SPOILED.items():
            connection.execute(spoiled_by.encode())
            with pytest.raises(JobFailed, match=f"'{mistake}': 1[,}}]"):
                bench.check(job)


def measured(bench: Bench, name: str) -> Row:
    of = run.CONTESTANTS[name]
    return measure(bench, of.module, name=name, records=RECORDS, slots=SLOTS, latency_ms=LATENCY_MS, tasks=of.tasks)


def test_a_checkout_brings_its_own_settings(bench: Bench) -> None:
    wrong = Checkout(settings={"ANOMALY_NO_SUCH_SETTING": "1"})
    with pytest.raises(JobFailed, match="ours ended with code 1"):
        measure(bench, "ours", name="ours", records=1, slots=SLOTS, latency_ms=LATENCY_MS, checkout=wrong)


def test_a_trace_has_a_record_s_calls_from_open_chunk_to_the_commit(bench: Bench) -> None:
    calls = trace.trace(bench, HERE)
    functions = [function for _, function in calls]
    assert functions.count("open_chunk") == 1
    assert functions.count("commit") >= 1
    modules = {module for module, _ in calls}
    assert {"anomaly.images.download", "anomaly.detectors.generic", "anomaly.archive.bucket", "anomaly.db.record_store"} <= modules
    assert any(map(trace.is_orchestration, modules))


def test_the_line_to_postgres_counts_connections_and_round_trips(bench: Bench) -> None:
    job = bench.prepare(contestant="nobody", records=1, slots=1, latency_ms=0)
    with psycopg.connect(job.dsn, autocommit=True) as connection:
        before = bench.counted()["postgres"]["round_trips"]
        for _ in range(5):
            connection.execute("select 1")
    counted = bench.counted()["postgres"]
    assert counted["connections"] == 1
    assert counted["round_trips"] in {before + 5, before + 6}  # the farewell may be there already


def test_a_network_of_20_ms_is_felt_at_each_round_trip(bench: Bench) -> None:
    (database, http) = ablation.compare(bench, records=2, round_trips_ms=(20.0,))
    assert database.before_ms >= database.before_round_trips * 20
    assert database.after_round_trips < database.before_round_trips
    assert http.before_ms >= 2 * 2 * 20  # connecting, and asking, twice
    assert http.after_ms < http.before_ms


def test_more_requests_than_slots_wait_their_turn(bench: Bench) -> None:
    bench.prepare(contestant="nobody", records=1, slots=1, latency_ms=50)
    image = b"\xff\xd8\xff\xfe\x00\x12" + b"%016d" % 7
    post = b"POST /v1/detect HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(image), image)
    asking = [socket.create_connection(("127.0.0.1", bench.ports["detector"])) for _ in range(3)]
    for line in asking:
        line.sendall(post)
    assert all(b'"score"' in line.recv(4096) for line in asking)
    counted = bench.counted()["detector"]
    for line in asking:
        line.close()
    assert counted["in_flight_max"] == 3
    assert counted["wall_s"] >= 0.145
    assert counted["utilisation"] > 0.9


def test_the_first_object_put_under_a_key_stays(bench: Bench) -> None:
    from benchmarks.contestants.plain import s3_client  # noqa: PLC0415  # boto3 is slow to import

    client = s3_client(bench.prepare(contestant="nobody", records=1, slots=1, latency_ms=0))
    client.put_object(Bucket="bench", Key="images/a", Body=b"first")
    with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="bench", Key="images/a", Body=b"second", IfNoneMatch="*")
    assert client.get_object(Bucket="bench", Key="images/a")["Body"].read() == b"first"
    client.close()


def test_tasks_under_a_quota_stay_within_it_and_count_no_attempt(bench: Bench) -> None:
    found = quota.measured(bench, records=40, tasks=2, requests_per_minute=600)
    assert found["took_s"] >= 40 / 10 - 2.5, "a second's worth is granted at once, and another before it is over"
    assert found["requests"] == 40 + found["answered_429"]
    assert (found["attempts_too_many"], found["given_back"]) == (0, 0)
