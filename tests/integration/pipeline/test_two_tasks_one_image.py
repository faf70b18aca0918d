"""Two tasks, each a process of its own, meet the same new images at the same time: the detector sees each image once."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.chaos.workers import Workers, until
from tests.chaos.world import HELD_MAX, LEASE_S, SLOTS, WITHIN_S, World
from tests.parts.gates import CallGate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embedded.postgres import Postgres
    from embedded.s3 import S3
    from tests.chaos.runs import DagRun

IMAGES = HELD_MAX - SLOTS
"""As many as a task holds at once, and a few less: both tasks gate all of them."""
START, DAY = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    with Workers(tmp_path_factory.mktemp("workers")) as workers:
        yield workers


@pytest.fixture
def world(database: str, postgres: Postgres, s3: S3, workers: Workers, tmp_path: Path) -> Iterator[World]:
    """On each of two days, a record for each of the images; the detector says nothing yet."""
    with World(database, postgres, s3, workers, tmp_path) as world:
        world.add(IMAGES)
        world.do("update anomaly.records set captured_at = %(start)s", start=START)
        world.do(
            "insert into anomaly.records (image_url, captured_at) select image_url, captured_at + interval '1 day' from anomaly.records"
        )
        world.detecting = CallGate(0)
        yield world


def started(world: World) -> list[DagRun]:
    """A run for each day; both tasks gate all images, and one of them asks about each."""
    runs = [a_run(world, day) for day in range(2)]
    for run in runs:
        run.start()
    until(lambda: fetched(world) == 2 * IMAGES, within_s=WITHIN_S, what="both tasks have all images")
    until(lambda: world.count("asks") == IMAGES, within_s=WITHIN_S, what="one of them asks about each")
    until(lambda: world.detecting.blocked, within_s=WITHIN_S, what="a request is under way")
    return runs


def a_run(world: World, day: int, *, again: str = "") -> DagRun:
    window = START + day * DAY, START + (day + 1) * DAY
    return world.run(f"day {day}{again}", window=window, batch_size=100, chunk_size=100)


def fetched(world: World) -> int:
    return sum(len(world.stub.asked(f"/image/{number}")) for number in range(IMAGES))


def who_asks(world: World) -> int:
    """The day whose run asks about the most images."""
    found = world.rows("select run_id from anomaly.asks join anomaly.batches using (batch_id) group by run_id order by count(*) desc")
    return int(found[0]["run_id"].split()[1])


def await_success(*runs: DagRun) -> None:
    for run in runs:
        run.wait(within_s=WITHIN_S)
        assert run.state == "success"


def assert_each_record_done_once(world: World, *, asked_twice_max: int) -> None:
    counted = world.counted()
    assert (counted.records, counted.lost, counted.duplicates, counted.stuck) == (2 * IMAGES, 0, 0, 0)
    assert counted.asked_twice <= asked_twice_max


def test_the_detector_is_asked_once_about_each_image_and_each_record_has_its_verdict(world: World) -> None:
    runs = started(world)
    world.detecting.open()
    await_success(*runs)
    assert_each_record_done_once(world, asked_twice_max=0)
    assert len(world.stub.asked("/detect")) == IMAGES
    assert world.count("ai_results", "reused") == IMAGES


def test_when_one_of_them_is_killed_and_tried_again_only_what_it_had_in_flight_is_asked_again(world: World) -> None:
    runs = started(world)
    runs[who_asks(world)].living("process").kill()
    world.detecting.open()
    await_success(*runs)
    assert_each_record_done_once(world, asked_twice_max=SLOTS)


def test_when_one_of_them_is_killed_for_good_the_other_asks_in_its_place_once_its_lease_is_over(world: World) -> None:
    runs = started(world)
    dead = who_asks(world)
    runs[dead].abandon()
    runs[dead].living("process").kill()
    killed_at = time.monotonic()
    world.detecting.open()
    await_success(runs[1 - dead])
    assert time.monotonic() - killed_at < LEASE_S + WITHIN_S / 4
    assert world.committed == IMAGES
    later = a_run(world, dead, again=", later")
    later.start()
    await_success(later)
    assert_each_record_done_once(world, asked_twice_max=SLOTS)
