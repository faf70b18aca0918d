"""Decisions while the server is killed: the small version of the whole one in `tests/chaos`."""

from __future__ import annotations

from tests.chaos.decisions import play


def test_no_decision_is_lost_or_written_twice_when_the_server_is_killed(database: str) -> None:
    played = play(database, decisions=150, seed=5, kill_share=0.3)
    assert (played.decisions, played.lost, played.twice) == (150, 0, 0)
    assert played.kills >= 1
