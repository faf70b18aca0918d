"""Metrics of runs: each documented metric is sent over a real socket when its event happens."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.metrics import TIMINGS_MAX
from tests.chaos.workers import until
from tests.dags.conftest import ANSWER, a_png, a_world
from tests.parts.http_stub import Reply
from tests.parts.statsd import Statsd
from tests.parts.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embedded.postgres import Postgres
    from embedded.s3 import S3
    from tests.dags.conftest import World
    from tests.parts.dag_runs import DagRuns
    from tests.parts.http_stub import Seen
    from tests.parts.statsd import Sent
    from tests.parts.tcp_proxy import Trap

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "airflow."
STATS = """
from airflow.sdk.observability.metrics import stats_utils
stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)
"""
ALERT = f"""{STATS}
import __main__
__main__.dag = __main__.bag.dags["anomaly_maintenance"]
"""
RECORDS = 30
"""In a chunk: more than it sends times of one operation."""
WITHIN_S = 30.0


@dataclass(frozen=True)
class Told:
    """The metrics that a run has sent."""

    sent: list[Sent]

    def values(self, name: str, **tags: str) -> list[float]:
        return [each.value for each in self.sent if each.name == f"{PREFIX}{name}" and tags.items() <= each.tags.items()]

    def count(self, name: str, **tags: str) -> float:
        """Return the total of a counter."""
        return sum(self.values(name, **tags))

    def tagged(self, name: str, tag: str) -> set[str]:
        """The values of a tag."""
        return {each.tags[tag] for each in self.sent if each.name == f"{PREFIX}{name}"}


def told_by(world: World, statsd: Statsd, *, before: str = STATS, env: dict[str, str] | None = None, **conf: Any) -> Told:
    ended = world.run(before=before, env=statsd.env | (env or {}), **conf)
    assert ended.state != "broken", ended.output
    return Told([each for each in statsd.close() if each.name.startswith(f"{PREFIX}anomaly.")])


# ── the runs


@pytest.fixture(scope="module")
def world(
    dag_runs: DagRuns, postgres: Postgres, migrated_template: str, s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    postgres.ensure_database("metrics", template=migrated_template)
    with a_world(dag_runs, postgres.dsn("metrics"), s3, tmp_path_factory.mktemp("metrics")) as world:
        yield world
    postgres.drop_database("metrics")


@pytest.fixture(scope="module")
def troubled(world: World) -> Told:
    """A run in which something fails once wherever it is tried again inside the task; one record has no image."""
    world.add(RECORDS - 2)
    world.add_one(Reply(status=503), Reply(body=a_png(500), content_type="image/png"))
    world.add_one(Reply(status=404))
    with Statsd() as statsd, cut_once(world) as env:

        def hold_back(_: Seen) -> Reply:
            until(lambda: len(world.stub.asked("/detect")) > 3, within_s=WITHIN_S, what="another request is in flight")
            until(
                lambda: Told(statsd.sent).count("anomaly.throttled", code="detector_overloaded"), within_s=WITHIN_S, what="the limit falls"
            )
            return Reply(status=429, headers={"retry-after-ms": "200"})

        def answer(_: Seen) -> Reply:
            """Wait until the pause was sent, so that it is sent while requests are in flight."""
            until(lambda: any(Told(statsd.sent).values("anomaly.throttle_held")), within_s=WITHIN_S, what="a pause is told")
            return ANSWER

        world.detector(Reply(status=500), Reply(status=503), hold_back, answer)
        told = told_by(world, statsd, env=env, chunk_size=RECORDS)
    assert world.statuses() == {"done": RECORDS - 1, "quarantined": 1}
    return told


@contextlib.contextmanager
def cut_once(world: World) -> Iterator[dict[str, str]]:
    """Connections on which the first image is written, and the first verdict, end before that has arrived."""
    database, bucket = (json.loads(world.env[f"AIRFLOW_CONN_ANOMALY_{name}"]) for name in ("DB", "S3"))
    s3_port = int(bucket["extra"]["endpoint_url"].rpartition(":")[2])
    with TcpProxy(database["port"]) as at_database, TcpProxy(s3_port) as at_s3:
        for trap in (at_database.trap(b"insert into anomaly.ai_results"), at_s3.trap(b"/images/sha256/")):

            def cut(trap: Trap = trap) -> None:
                until(lambda: trap.caught, within_s=WITHIN_S, what="something is written")
                trap.cut()

            threading.Thread(target=cut, daemon=True).start()
        database["port"], bucket["extra"]["endpoint_url"] = at_database.port, f"http://127.0.0.1:{at_s3.port}"
        yield {"AIRFLOW_CONN_ANOMALY_DB": json.dumps(database), "AIRFLOW_CONN_ANOMALY_S3": json.dumps(bucket)}


@pytest.fixture(scope="module")
def down(world: World, troubled: Told) -> Told:  # noqa: ARG001  # one run after the other
    """A run whose detector answers nobody, through all four tries of its task."""
    world.add(5)
    world.detector(Reply(status=502))
    with Statsd() as statsd:
        return told_by(world, statsd, env={"ANOMALY_BREAKER_FAILURES": "3"})


@pytest.fixture(scope="module")
def alerted(world: World, down: Told) -> Told:  # noqa: ARG001  # one run after the other
    """A run of maintenance's alert, while five records are due, one is to be tried later, and one is in quarantine."""
    later = world.add(1)
    world.sql.execute("update anomaly.records set not_before = now() + interval '1 hour' where id = any(%s)", [later])
    with Statsd() as statsd:
        return told_by(world, statsd, before=ALERT, tasks=["alert"])


@pytest.fixture(scope="module")
def robbed(world: World, alerted: Told) -> Told:  # noqa: ARG001  # one run after the other
    """A run whose chunk someone else takes over when one of its two records is being asked about."""
    world.sql.execute("delete from anomaly.records where status = 'pending'")
    _, suspect = world.add(2)
    world.sql.execute("update anomaly.records set lost = 2 where id = %s", [suspect])  # worked last, after a look at the lease

    def take_over(_: Seen) -> Reply:
        world.sql.execute("update anomaly.chunks set try_number = 99 where ended_at is null")
        return ANSWER

    world.detector(take_over)
    with Statsd() as statsd:
        return told_by(world, statsd)


# ── the metrics


def test_records_are_counted_by_how_they_ended_and_errors_by_code(troubled: Told) -> None:
    assert troubled.count("anomaly.records", event="committed") == RECORDS - 1
    assert troubled.count("anomaly.records", event="quarantined") == 1
    assert troubled.count("anomaly.errors", code="image_not_found") == 1


def test_every_operation_is_timed_and_of_a_chunk_no_more_than_a_portion_is_sent(troubled: Told) -> None:
    assert len(troubled.values("anomaly.operation", operation="fetch")) == TIMINGS_MAX
    assert len(troubled.values("anomaly.operation", operation="commit")) == TIMINGS_MAX
    assert len(troubled.values("anomaly.operation", operation="open")) == 1
    assert min(troubled.values("anomaly.operation")) > 0


@pytest.mark.parametrize("layer", ["image", "detector", "archive", "database"])
def test_what_is_tried_again_inside_a_task_is_counted_by_its_layer(troubled: Told, layer: str) -> None:
    assert troubled.values("anomaly.retries", layer=layer)[0] == 0
    assert troubled.count("anomaly.retries", layer=layer) >= 1
    assert troubled.count("anomaly.retries", layer="task") == 0


def test_the_detectors_refusals_are_counted_by_code(troubled: Told) -> None:
    assert troubled.count("anomaly.throttled", code="detector_throttled") == 1
    assert troubled.count("anomaly.throttled", code="detector_overloaded") == 1


def test_the_throttle_tells_its_limit_what_is_in_flight_and_a_pause_and_ends_with_nothing(troubled: Told) -> None:
    limits, in_flight, held = (troubled.values(f"anomaly.throttle_{what}", task="0") for what in ("limit", "in_flight", "held"))
    assert (max(limits), max(in_flight) >= 1) == (32, True)
    assert min(limits[limits.index(32) : -1]) < 32
    assert 0.1 < max(held) <= 0.22
    assert (limits[-1], in_flight[-1], held[-1]) == (0, 0, 0)


def test_a_task_tells_its_connections_and_ends_with_none(troubled: Told) -> None:
    assert troubled.values("anomaly.pool_open", task="0")[0] >= 2
    assert troubled.values("anomaly.pool_open", task="0")[-1] == 0
    assert all(0 <= in_use <= 10 for in_use in troubled.values("anomaly.pool_in_use", task="0"))


def test_a_run_tells_the_backlog_at_its_beginning_and_at_its_end(troubled: Told) -> None:
    assert troubled.values("anomaly.backlog", state="claimed") == [RECORDS, 0]
    assert troubled.values("anomaly.backlog", state="quarantined") == [0, 1]
    assert troubled.values("anomaly.oldest_due_age") == [0, 0]


def test_an_outage_opens_the_breaker_once_in_each_try_and_the_further_tries_are_counted(down: Told) -> None:
    assert down.count("anomaly.breaker_openings") == 4
    assert down.count("anomaly.retries", layer="task") == 3


def test_what_an_outage_leaves_is_due_and_its_age_is_told(down: Told) -> None:
    assert down.values("anomaly.backlog", state="due") == [0, 5]
    assert 3600 <= down.values("anomaly.oldest_due_age")[-1] < 3700


def test_maintenance_reports_the_backlog_too(alerted: Told) -> None:
    assert {state: alerted.values("anomaly.backlog", state=state) for state in ("due", "later", "claimed", "quarantined")} == {
        "due": [5],
        "later": [1],
        "claimed": [0],
        "quarantined": [1],
    }
    assert len(alerted.values("anomaly.oldest_due_age")) == 1


def test_a_lease_that_is_lost_is_counted_once_and_so_is_the_record_that_was_left(robbed: Told) -> None:
    assert robbed.count("anomaly.lease_losses") == 1
    assert robbed.count("anomaly.records", event="lease_lost") == 1
    assert robbed.count("anomaly.records", event="committed") == 1


# ── what the page says of it


@dataclass(frozen=True)
class Row:
    kind: str
    tag: str | None
    values: set[str]


def documented() -> dict[str, Row]:
    section = (ROOT / "docs" / "operations.md").read_text().partition("## Metrics\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `anomaly.")]
    found = {}
    for name, kind, _unit, tags, _meaning in rows:
        tag, *values = re.findall(r"`(\w+)`", tags) or [None]
        found[name.strip("` ")] = Row(kind, tag, set(values))
    return found


def test_each_metric_on_the_page_is_sent_as_it_says_and_no_other(troubled: Told, down: Told, alerted: Told, robbed: Told) -> None:
    kinds = {"c": "counter", "g": "gauge", "ms": "timer"}
    every = Told([*troubled.sent, *down.sent, *alerted.sent, *robbed.sent])
    seen = {(each.name.removeprefix(PREFIX), kinds[each.kind], next(iter(each.tags), None), len(each.tags)) for each in every.sent}
    assert seen == {(name, row.kind, row.tag, int(row.tag is not None)) for name, row in documented().items()}


def test_the_values_of_tags_are_those_that_the_page_lists(troubled: Told, down: Told, alerted: Told, robbed: Told) -> None:
    every = Told([*troubled.sent, *down.sent, *alerted.sent, *robbed.sent])
    listed = {name: (row.tag, row.values) for name, row in documented().items() if row.tag and row.values}
    seen = {name: every.tagged(name, tag) for name, (tag, _) in listed.items()}
    for name in ("anomaly.operation", "anomaly.retries", "anomaly.throttled", "anomaly.backlog"):
        assert seen.pop(name) == listed[name][1], name
    assert {name: values - listed[name][1] for name, values in seen.items()} == {"anomaly.records": set()}
