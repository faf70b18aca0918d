"""A conf with a name that the DAG does not have fails the run before it does anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.dags.conftest import World


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ({"max_record": 5}, "there is no param 'max_record'; did you mean max_records?"),
        ({"max-records": 5}, "there is no param 'max-records'; did you mean max_records?"),
        ({"windowstart": "2026-01-01T00:00:00Z"}, "there is no param 'windowstart'; did you mean window_start?"),
        ({"max_records": 5, "detecter": "anomaly_second"}, "there is no param 'detecter'; did you mean detector?"),
        ({"limit": 5}, "there is no param 'limit'; there are select, window_start, "),
    ],
)
def test_an_unknown_param_is_refused_with_the_nearest_name(world: World, conf: dict[str, Any], sentence: str) -> None:
    world.add(2)
    ended = world.run(**conf)
    assert ended.state == "failed"
    assert sentence in ended.output
    assert ended.tasks["claim"] == ("failed", 1)
    assert world.statuses() == {"pending": 2}
    assert world.stub.asked("/detect") == []


def test_a_rate_that_is_not_a_number_is_refused(world: World) -> None:
    world.add(2)
    ended = world.run(max_failure_rate=float("nan"))
    assert ended.state == "failed"
    assert "Invalid input for param max_failure_rate" in ended.output  # by Airflow, which passes NaN on as null
    assert world.statuses() == {"pending": 2}


def test_whole_numbers_that_are_written_as_floats_are_numbers(world: World) -> None:
    world.add(5)
    ended = world.run(max_records=4.0, batch_size=3.0, chunk_size=2.0)
    assert ended.state == "success"
    assert world.statuses() == {"done": 4, "pending": 1}
