"""The sums of the verdicts: with the results that are not in them yet, they always equal a query of all results."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
import pytest

from anomaly.db.page_overview import OverviewStore
from anomaly.db.stats import StatsStore
from anomaly.page.charts import score_chart
from tests.parts.page_demo import sum_anew
from tests.parts.record_builders import RecordsDb, an_answer

SINCE = datetime(2020, 1, 1, tzinfo=UTC)
PLAIN_VERDICTS = """
select date_trunc('day', created_at, 'UTC') as at, detector, count(*) as verdicts, count(*) filter (where is_anomaly) as anomalies,
       min(created_at) as first_at, min(threshold) as threshold_low, max(threshold) as threshold_high
  from anomaly.ai_results group by 1, 2 order by 1, 5
"""
PLAIN_BINS = """
select anomaly.score_bin(score) as score, count(*) as verdicts, count(*) filter (where is_anomaly) as anomalies
  from anomaly.ai_results where detector = %(of)s and score > '-infinity' and score < 'infinity' group by 1 order by 1
"""
PLAIN_BARS = """
select floor(score / %(width)s + 1e-9)::integer as bar, count(*) as verdicts, count(*) filter (where is_anomaly) as anomalies
  from anomaly.ai_results where detector = %(detector)s and score > '-infinity' and score < 'infinity' group by 1 order by 1
"""
SUM = "select anomaly.sum_verdicts(grace => '0', step => null) as more"


def judge(db: RecordsDb, *scores: float, detector: str = "padim@1", days_ago: int = 0) -> None:
    for claim, score in zip(db.claims(len(scores)), scores, strict=True):
        db.commit(claim, an_answer(score, is_anomaly=score >= 0.5, detector=detector))
        if days_ago:
            db.do(
                "update anomaly.ai_results set created_at = now() - %(ago)s where record_id = %(id)s",
                ago=timedelta(days=days_ago),
                id=claim.record_id,
            )


def check(db: RecordsDb, *, detector: str = "padim@1") -> None:
    """Compare verdicts and scores with queries of the results."""
    store = OverviewStore(db.database)
    counts = store.verdicts(since=SINCE, step="day")
    assert [{name: getattr(count, name) for name in count.__dataclass_fields__} for count in counts] == db.rows(PLAIN_VERDICTS)
    bins = store.scores(since=SINCE, detector=detector)
    assert [(each.score, each.verdicts, each.anomalies) for each in bins] == [
        tuple(row.values()) for row in db.rows(PLAIN_BINS, of=detector)
    ]


def test_numbers_are_those_of_the_results_before_and_after_they_are_summed(db: RecordsDb) -> None:
    judge(db, 0.1, 0.5, 0.91, days_ago=3)
    sum_anew(db)
    judge(db, 0.2, 0.9, 0.900001)
    judge(db, 0.7, float("inf"), detector="padim@2")
    check(db)
    assert db.rows(SUM) == [{"more": False}]
    check(db)
    check(db, detector="padim@2")
    judge(db, 0.3, -0.4)
    check(db)
    db.do(SUM)
    check(db)
    assert sum(row["verdicts"] for row in db.rows("select verdicts from anomaly.verdict_hours")) == 10


def test_the_bars_of_a_chart_are_those_of_a_query(db: RecordsDb) -> None:
    judge(db, *(n * 7919 % 10007 / 10007 for n in range(200)), 1.0, 0.29, 0.57, 0.58, -0.03)
    db.do(SUM)
    chart = score_chart(OverviewStore(db.database).scores(since=SINCE, detector="padim@1"), thresholds=[0.5])
    assert chart is not None
    shown = [bar.title.split(": ")[1] for bar in chart.bars]
    rows = db.rows(PLAIN_BARS, width=0.05, detector="padim@1")
    assert shown == [f"{row['anomalies']} of {row['verdicts']} anomalies" for row in rows]


def test_hours_are_summed_step_by_step_until_none_is_left(db: RecordsDb) -> None:
    judge(db, 0.1, 0.9, days_ago=2)
    db.do("update anomaly.verdict_sums set summed_until = now() - interval '3 days'")
    OverviewStore(db.database).sum_verdicts()
    assert db.rows("select hour from anomaly.verdict_hours") == []
    check(db)
    StatsStore(db.database).sum_verdicts()
    assert sum(row["verdicts"] for row in db.rows("select verdicts from anomaly.verdict_hours")) == 2
    [row] = db.rows("select now() - summed_until < interval '6 minutes' as near from anomaly.verdict_sums")
    assert row["near"]
    check(db)


def test_a_verdict_that_is_not_committed_yet_holds_the_sums_back(db: RecordsDb) -> None:
    first, second = db.claims(2)
    db.commit(first)
    gate = db.gate("processing_log", "insert")
    with gate.shut():
        committing = db.meanwhile(lambda: db.commit(second))
        db.until(lambda: gate.blocked() == 1)
        with RecordsDb(db.dsn) as other:
            assert other.rows(SUM) == [{"more": False}]
            check(other)
    committing.result()
    check(db)
    db.do(SUM)
    check(db)


def test_of_two_sessions_one_adds_and_the_other_leaves_it_at_once(db: RecordsDb) -> None:
    judge(db, 0.1, 0.9)
    gate = db.gate("score_days", "insert")
    with psycopg.connect(db.dsn, autocommit=True) as other:
        with gate.shut():
            adding = db.meanwhile(lambda: other.execute(SUM).fetchone())
            db.until(lambda: gate.blocked() == 1)
            assert db.rows(SUM) == [{"more": False}]
            check(db)
            assert not db.rows("select from anomaly.verdict_hours")
        assert adding.result() == (False,)
    check(db)


@pytest.mark.parametrize(("table", "event"), [("verdict_hours", "insert"), ("score_days", "insert"), ("verdict_sums", "update")])
def test_a_failure_at_any_step_leaves_the_sums_as_they_were(db: RecordsDb, table: str, event: str) -> None:
    judge(db, 0.1, 0.9)
    db.do("create function anomaly.refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$")
    db.do(f"create trigger refuse after {event} on anomaly.{table} execute function anomaly.refuse()")
    before = db.rows("select summed_until from anomaly.verdict_sums")
    with pytest.raises(psycopg.errors.RaiseException, match="refused"):
        db.do(SUM)
    assert db.rows("select summed_until from anomaly.verdict_sums") == before
    assert not db.rows("select from anomaly.verdict_hours")
    check(db)
    db.do(f"drop trigger refuse on anomaly.{table}")
    db.do(SUM)
    check(db)


@pytest.mark.parametrize(
    "change",
    [
        "update anomaly.records set status = 'pending'",
        "update anomaly.ai_flags set review = 'normal', reviewed_by = 'ann', reviewed_at = now()",
        "delete from anomaly.processing_log",
    ],
)
def test_a_requeue_a_review_and_a_purge_change_no_sum(db: RecordsDb, change: LiteralString) -> None:
    judge(db, 0.1, 0.9)
    db.do(SUM)
    db.do(change)
    check(db)


def test_a_record_that_is_scored_again_counts_twice_as_its_results_do(db: RecordsDb) -> None:
    judge(db, 0.1, 0.9)
    db.do(SUM)
    run = db.run("again")
    for claim in db.open(db.claim(run, origin="done"), run=run):
        db.commit(claim)
    check(db)
    db.do(SUM)
    check(db)
    assert sum(row["verdicts"] for row in db.rows("select verdicts from anomaly.verdict_hours")) == 4


def test_results_of_before_are_in_the_sums_after_the_migration(db: RecordsDb) -> None:
    judge(db, 0.1, 0.9, days_ago=40)
    judge(db, 0.4, detector="x" * 5000, days_ago=1)
    sum_anew(db)
    [row] = db.rows("select sum(verdicts)::integer as verdicts, max(length(detector)) as longest from anomaly.verdict_hours")
    assert row == {"verdicts": 3, "longest": 600}


@pytest.mark.parametrize(
    ("score", "low"),
    [
        (0, 0),
        (1, 1),
        (0.29, 0.29),
        (0.5699, 0.565),
        (-0.2999, -0.3),
        (-0.29, -0.29),
        (999.99, 995),
        (1000, 1000),
        (123456, 120000),
        (1e-300, 0),
    ],
)
def test_a_bin_begins_at_a_twentieth_of_the_power_of_ten(db: RecordsDb, score: float, low: float) -> None:
    [row] = db.rows("select anomaly.score_bin(%(score)s::double precision) as low", score=score)
    assert row["low"] == pytest.approx(low, abs=1e-13)
