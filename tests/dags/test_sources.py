"""Rows of a table of the user, from the configuration to their verdicts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.dags.conftest import a_png
from tests.parts.http_stub import Reply

if TYPE_CHECKING:
    from tests.dags.conftest import World

SOURCE = {"table": "shop.photos", "id": "id", "image_url": "url", "captured_at": "at"}


def fill(world: World, count: int) -> None:
    image = world.stub.at("/shop", Reply(body=a_png(), content_type="image/png"))
    world.sql.execute("create schema shop")
    world.sql.execute("create table shop.photos (id uuid primary key default gen_random_uuid(), url text, at timestamptz)")
    world.sql.execute(
        "insert into shop.photos (url, at) select %s || '?' || i, now() - interval '1 hour' from generate_series(1, %s) as i",
        [image, count],
    )
    world.sql.execute("insert into shop.photos (url, at) values (null, now())")


def test_a_run_takes_every_row_of_a_configured_table_to_its_verdict(world: World) -> None:
    fill(world, 12)
    world.env["ANOMALY_SOURCE"] = json.dumps(SOURCE)
    assert world.run(dry_run=True).state == "success"
    assert world.statuses() == {"pending": 12}
    ended = world.run(chunk_size=5)
    assert ended.state == "success"
    assert "source_row_invalid source=shop.photos rows=1" in ended.output
    assert world.statuses() == {"done": 12}


def test_a_source_that_cannot_be_used_fails_the_claim_with_one_sentence_and_no_retry(world: World) -> None:
    world.env["ANOMALY_SOURCE"] = json.dumps({**SOURCE, "table": "shop.photo"})
    ended = world.run()
    assert ended.state == "failed"
    assert ended.tasks["claim"] == ("failed", 1)
    assert "source shop.photo: there is no table or view shop.photo" in ended.output
