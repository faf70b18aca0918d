"""Ten thousand decisions, and a server that is killed at random moments."""

from __future__ import annotations

import pytest

from tests.chaos.decisions import play


@pytest.mark.timeout(3600)
def test_of_ten_thousand_decisions_none_is_lost_and_none_is_written_twice(database: str) -> None:
    played = play(database, decisions=10_000, seed=14, kill_share=0.03)
    print(played)  # noqa: T201  # the figure that the documentation has
    assert (played.lost, played.twice) == (0, 0)
    assert played.kills >= 10
