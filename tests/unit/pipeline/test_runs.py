"""How a run begins and ends, where its first try died half-way or its end is refused by what is beside the job."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from anomaly.errors import ArchiveUnavailable, DatabaseUnavailable, FailureRateExceeded, Misconfigured, RunStopped
from anomaly.models.runs import BatchReport, Preview, Released, Run, Window
from anomaly.pipeline import runs
from anomaly.settings import Settings

if TYPE_CHECKING:
    from anomaly.models.runs import BatchId

BEGAN = datetime(2026, 1, 2, tzinfo=UTC)
RUN = Run(dag_id="d", run_id="r", window=Window(), batch_size=4, chunk_size=2)


@dataclass
class Rows:
    """A database with so many records due, that writes down what it is asked."""

    due: int
    fails_at: int = -1
    """The chunk whose claim is committed and never answered."""
    tasks_before: int = 0
    chunks: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    claimed: int = 0

    def current_time(self) -> datetime:
        self.asked.append("the time")
        return BEGAN

    def begin_batch(self, run: Run) -> datetime:
        self.asked.append(f"begin {run.run_id}")
        return BEGAN

    def requeue(self, run: Run, *, began_at: datetime, actor: str) -> int:  # noqa: ARG002
        self.asked.append(f"requeue by {actor}")
        return 0

    def reap_expired_chunks(self) -> int:
        return 0

    def unopened_chunks(self, batch_id: BatchId) -> list[int]:  # noqa: ARG002
        return list(self.chunks)

    def mapped_task_count(self, batch_id: BatchId) -> int:  # noqa: ARG002
        return self.tasks_before

    def claim_chunk(self, run: Run, *, size: int, **_: Any) -> int | None:
        taken = min(size, self.due, (run.max_records or 10**9) - self.claimed)
        if taken <= 0:
            return None
        self.due, self.claimed = self.due - taken, self.claimed + taken
        self.chunks.append(len(self.chunks))
        if self.chunks[-1] == self.fails_at:
            raise DatabaseUnavailable("cut")
        return self.chunks[-1]

    def end_batch(self, batch_id: BatchId) -> None:  # noqa: ARG002
        self.asked.append("end")

    def release_batch(self, batch_id: BatchId) -> Released:  # noqa: ARG002
        self.asked.append("release")
        return Released(records=3)

    def report(self, batch_id: BatchId) -> BatchReport:  # noqa: ARG002
        self.asked.append("count")
        events = {("committed", None): 8, ("deferred", "detector_failed"): 1, ("worker_died", "worker_lost"): 1}
        return BatchReport(statuses={}, events=events, timings={}, tallies={}, anomalies=0, reused=0)

    def preview(self, run: Run) -> Preview:
        raise NotImplementedError(run.run_id)


class Bucket:
    """Refuses everything."""

    def begin_run(self, run_id: str) -> None:
        raise ArchiveUnavailable(run_id)

    def put_report(self, run_id: str, body: bytes) -> str:
        raise ArchiveUnavailable(f"{run_id} {len(body)}")


def claimed(run: Run, rows: Rows, *, chunks_max: int = 100) -> list[int]:
    return [chunk.number for chunk in runs.claim(run, store=rows, archive=Bucket(), queue_lease_s=60, chunks_max=chunks_max)]


def test_a_second_claim_hands_over_what_the_first_one_committed_and_claims_only_what_is_missing() -> None:
    rows = Rows(due=100, fails_at=0)
    with pytest.raises(DatabaseUnavailable):
        claimed(RUN, rows)
    assert claimed(RUN, rows) == [0, 1]
    assert rows.claimed == RUN.batch_size


def test_a_claim_hands_over_no_more_chunks_than_airflow_maps_over() -> None:
    rows = Rows(due=100)
    assert claimed(replace(RUN, batch_size=100), rows, chunks_max=3) == [0, 1, 2]
    assert rows.claimed == 6


def test_a_claim_takes_no_more_than_the_run_may_work_at_all() -> None:
    rows = Rows(due=100)
    claimed(replace(RUN, max_records=3), rows)
    assert rows.claimed == 3


@pytest.mark.parametrize(
    ("asked", "records_per_s", "sizes"),
    [
        ({"chunk_size": 7, "batch_size": 70}, 100.0, (7, 70)),
        ({"chunk_size": 7, "batch_size": None}, 100.0, (7, 28)),
        ({"chunk_size": None, "batch_size": None}, 20.0, (200, 800)),
        ({"chunk_size": None, "batch_size": 500}, 20.0, (200, 500)),
        ({"chunk_size": None, "batch_size": None}, 0.5, (25, 100)),
        ({"chunk_size": None, "batch_size": None}, 1000.0, (500, 2000)),
        ({"chunk_size": None, "batch_size": None}, None, (250, 1000)),
    ],
)
def test_sizes_that_were_not_asked_for_follow_the_rate_within_the_settings_bounds(
    asked: dict[str, int | None], records_per_s: float | None, sizes: tuple[int, int]
) -> None:
    run = Run(dag_id="d", run_id="r", window=Window())
    run = runs.sized(run, **asked, records_per_s=records_per_s, settings=Settings())
    assert (run.chunk_size, run.batch_size) == sizes


def test_further_chunks_are_of_the_first_ones_size() -> None:
    chunks = runs.claim(RUN, store=Rows(due=100), archive=Bucket(), queue_lease_s=3600, chunks_max=1000)
    assert {chunk.size for chunk in chunks} == {RUN.chunk_size}


def test_requeuing_says_who_asked_for_it() -> None:
    rows = Rows(due=0)
    claimed(replace(RUN, select="failed", requested_by="ann"), rows)
    assert rows.asked == ["begin r", "requeue by ann"]


@pytest.mark.parametrize(
    "window", [Window(start=BEGAN, end=BEGAN), Window(start=BEGAN, end=BEGAN - timedelta(days=1)), Window(start=BEGAN + timedelta(days=1))]
)
def test_a_window_that_cannot_be_meant_is_refused_and_nothing_is_claimed(window: Window) -> None:
    rows = Rows(due=100)
    with pytest.raises(Misconfigured, match="the window"):
        claimed(replace(RUN, window=window), rows)
    assert rows.claimed == 0


@pytest.mark.parametrize("start", [BEGAN, BEGAN + timedelta(days=1)])
def test_a_dry_run_of_a_window_in_the_future_is_refused_in_the_same_words_and_begins_no_batch(start: datetime) -> None:
    rows, run, said = Rows(due=100), replace(RUN, window=Window(start=start)), set()
    for dry_run in (False, True):
        with pytest.raises(Misconfigured, match="the window starts in the future") as refused:
            claimed(replace(run, dry_run=dry_run), rows)
        said.add(str(refused.value))
    assert len(said) == 1
    assert rows.asked == ["begin r", "the time"]


def test_a_dry_run_of_a_window_that_has_begun_claims_nothing() -> None:
    rows = Rows(due=100)
    assert claimed(replace(RUN, window=Window(start=BEGAN - timedelta(days=1)), dry_run=True), rows) == []
    assert (rows.claimed, rows.asked) == (0, ["the time"])


def test_a_report_closes_the_batch_before_it_frees_and_frees_before_it_counts() -> None:
    rows = Rows(due=0)
    body = runs.report(RUN, store=rows, archive=Bucket())
    assert rows.asked == ["end", "release", "count"]
    assert (body["released_at_end"], body["errors"]) == (3, {"detector_failed": 1, "worker_lost": 1})


def test_a_run_is_red_over_a_failed_task_whatever_its_records_came_to() -> None:
    with pytest.raises(RunStopped, match="2 tasks failed: claim, process_3"):
        runs.judge(RUN, {"events": {"committed": 5}}, failed_tasks=["claim", "process_3"])


@pytest.mark.parametrize(("rate", "red"), [(0.2, False), (0.19, True), (0.0, True), (1.0, False)])
def test_deferred_and_given_up_records_count_as_failures(rate: float, red: bool) -> None:  # noqa: FBT001
    body = runs.report(RUN, store=Rows(due=0), archive=Bucket())
    run = replace(RUN, max_failure_rate=rate)
    if red:
        with pytest.raises(FailureRateExceeded, match="2 of 10"):
            runs.judge(run, body, failed_tasks=[])
    else:
        runs.judge(run, body, failed_tasks=[])


def test_a_run_that_found_nothing_is_green_even_where_no_failure_is_accepted() -> None:
    runs.judge(replace(RUN, max_failure_rate=0.0), {"events": {}}, failed_tasks=[])


@pytest.mark.parametrize(("due", "numbers"), [(0, [0, 0, 0]), (4, [0, 1, 0]), (8, [0, 1])])
def test_a_cleared_run_is_mapped_over_no_fewer_chunks_than_before(due: int, numbers: list[int]) -> None:
    rows = Rows(due=due, tasks_before=3 if due < 8 else 1)
    claimed = runs.claim(RUN, store=rows, archive=Bucket(), queue_lease_s=60, chunks_max=10)
    assert [chunk.number for chunk in claimed] == numbers


@pytest.mark.parametrize("failed", [1, 49])
def test_a_run_in_which_everything_failed_is_never_green(failed: int) -> None:
    with pytest.raises(FailureRateExceeded, match=f"all {failed} records failed"):
        runs.judge(replace(RUN, max_failure_rate=1.0), {"events": {"quarantined": failed}}, failed_tasks=[])
