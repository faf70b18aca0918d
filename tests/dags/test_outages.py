from __future__ import annotations

from typing import TYPE_CHECKING

from tests.dags.conftest import ANSWER, a_png
from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from tests.dags.conftest import World

ONE_SLOT = {"ANOMALY_DETECTOR_SLOTS": "1", "ANOMALY_FETCH_WORKERS": "1"}


def test_a_record_that_fails_by_itself_pays_an_attempt_though_the_last_try_has_nobody_else_to_ask_for(world: World) -> None:
    ids = world.add(30)
    world.detector(lambda seen: Reply(status=500) if seen.body == a_png(3) else ANSWER)
    ended = world.run(chunk_size=30, env=ONE_SLOT)
    assert ended.tasks["process_0"] == ("success", 4)
    assert world.statuses() == {"done": 29, "pending": 1}
    assert {record_id: world.record(record_id)["attempts"] for record_id in ids} == dict.fromkeys(ids, 1)


def test_an_outage_costs_the_few_records_of_a_run_no_attempt(world: World) -> None:
    world.add(3)
    world.detector(Reply(status=500))
    ended = world.run()
    assert ended.tasks["process_0"] == ("failed", 4)
    assert world.statuses() == {"pending": 3}
    assert world.counted("records", "attempts") == {0: 3}
