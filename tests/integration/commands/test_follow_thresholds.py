"""Flags of earlier verdicts follow stored thresholds by a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.parts.record_builders import an_answer

if TYPE_CHECKING:
    from tests.parts.installation import Installation


def test_flags_follow_after_a_look_at_how_many_there_are(installation: Installation) -> None:
    db = installation.db
    for claim, score in zip(db.claims(3), (0.6, 0.7, 0.8), strict=True):
        db.commit(claim, an_answer(score))
    assert installation.run("follow-thresholds", "--dry-run").out == "0 records have to follow a threshold\n"
    db.do("select anomaly.add_threshold(gen_random_uuid(), 'padim@1', 0.7, 'too many', 'ann')")
    assert installation.run("follow-thresholds", "--dry-run", "--json").json == {"dry_run": True, "left": 3}
    assert installation.run("follow-thresholds").out == "3 records followed a threshold, 1 have another verdict, 0 are left\n"
    assert installation.run("follow-thresholds", "--json").json == {"dry_run": False, "followed": 0, "changed": 0, "skipped": 0, "left": 0}
    assert [row["is_anomaly"] for row in db.rows("select is_anomaly from anomaly.ai_flags order by record_id")] == [False, True, True]
