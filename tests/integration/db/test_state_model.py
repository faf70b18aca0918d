"""Holders of every kind, stale ones too, act on the records in any order, alone and at once; a model says what must come of it.

MODEL_EXAMPLES=1000 makes it a long, random search; without it the same few runs are made each time.
"""

from __future__ import annotations

import copy
import os
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from anomaly.errors import DetectorFailed, LeaseLost, Throttled
from anomaly.models.runs import BatchId, Holder
from tests.parts.record_builders import ARCHIVED, IMAGE, START, TABLES, RecordsDb, an_answer
from tests.parts.state_model import Batch, Chunk, Record, StateModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.records import Claim
    from anomaly.models.runs import Origin, Run

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))
PROFILE = settings(
    max_examples=EXAMPLES or 50,
    stateful_step_count=80 if EXAMPLES else 40,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
LEASE_S = 3600.0
FIRST = """
insert into anomaly.records (image_url, captured_at, status, attempts, lost, processed_at)
select 'http://images/' || i, %(start)s::timestamptz + i * interval '1 minute', status, attempts, lost,
       case when status <> 'pending' then now() - interval '1 day' end
  from unnest(%(status)s::text[], %(attempts)s::integer[], %(lost)s::integer[]) with ordinality as t(status, attempts, lost, i)
"""
ROWS = (*["pending"] * 8, "done", "done", "done", "quarantined"), (0, 0, 0, 4, 4, 1, 0, 0, 1, 1, 1, 5), (0, 0, 0, 0, 1, 2, 4, 4, 5, 2, 4, 0)
EVERYTHING = """
select (select json_agg(json_build_array(id, status, attempts, lost, token, batch_id, chunk,
                        not_before is null or not_before <= clock_timestamp(), processed_at) order by captured_at, id)
          from anomaly.records) as records,
       (select json_agg(json_build_array(batch_id, chunk, map_index, try_number, claimed_from, opened_at is not null,
                        ended_at is not null, alone, leased_until < clock_timestamp())) from anomaly.chunks) as chunks,
       (select json_agg(json_build_array(batch_id, began_at, next_chunk, claimed)) from anomaly.batches) as batches,
       (select json_agg(json_build_array(record_id, token)) from anomaly.ai_results) as results,
       (select json_agg(json_build_array(record_id, event, token)) from anomaly.processing_log) as log
"""
WRONG = {
    "claimed without a live chunk": """
        select r.id from anomaly.records as r left join anomaly.chunks as c using (batch_id, chunk)
         where r.status = 'claimed' and (c.ended_at is not null or c.batch_id is null)""",
    "has a result without flags or its log, or the other way round": """
        select record_id from anomaly.ai_results as a
         full join (select record_id, token from anomaly.processing_log where event = 'committed') as l using (record_id, token)
          left join anomaly.ai_flags as f using (record_id)
         where a.score is null or l.token is null or f.record_id is null""",
    "done by us without a result": """
        select id from anomaly.records as r where status = 'done' and not exists (select from anomaly.ai_results where record_id = r.id)
           and captured_at < %(start)s::timestamptz + interval '9 minutes'""",
    "used up its attempts and is still worked": "select id from anomaly.records where status = 'pending' and attempts >= 5",
    "died too often and is still worked": "select id from anomaly.records where status in ('pending', 'claimed') and lost >= 5",
}


class Op(NamedTuple):
    """Something that someone does, and what the model says about it."""

    act: Callable[[], Any]
    model: Callable[[StateModel], Any]


NOTHING = Op(lambda: None, lambda _: None)


class Held(NamedTuple):
    claim: Claim
    holder: Holder


def a_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def outcome(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except LeaseLost:
        return LeaseLost


KINDS = (
    *("claim and open",) * 4,
    "claim for the queue",
    *("open",) * 3,
    *("commit",) * 5,
    *("renew", "park", "mark alone") * 2,
    *("defer", "quarantine", "give back", "release", "end"),
    *("reap",) * 2,
    *("begin", "report", "requeue"),
)
AN_ACT = st.tuples(st.sampled_from(KINDS), st.integers(0, 9), st.integers(0, 9))


class Model(RuleBasedStateMachine):
    """Two runs, and holders of which some are stale; each is in the model's words whoever it is."""

    def __init__(self, db: RecordsDb) -> None:
        super().__init__()
        self.db, self.store = db, db.store
        for table in reversed(TABLES):
            db.do(f"delete from anomaly.{table}")  # noqa: S608  # ours
        status, attempts, lost = (list(column) for column in ROWS)
        db.do(FIRST, start=START, status=status, attempts=attempts, lost=lost)
        self.runs = [db.run("one"), db.run("two")]
        self.began = [self.store.begin_batch(run) for run in self.runs]
        self.holders = [Holder(map_index=m, try_number=t) for m, t in ((0, 1), (1, 1), (0, 2))]
        self.held: list[Held] = []
        self.state = self.load()

    # ── who does what

    def op(self, kind: str, a: int, b: int) -> Op:
        """Do one kind of step; *a* and *b* choose the actor and the target, mostly a recent one."""
        if kind in {"commit", "defer", "quarantine", "give back", "mark alone"}:
            return self._with_claim(kind, *self.held[-1 - (a + 10 * (b % 2)) % len(self.held)], odd=b % 3 == 0) if self.held else NOTHING
        run, began_at = self.runs[a % 2], self.began[a % 2]
        if kind in {"begin", "report", "requeue", "reap", "claim for the queue"}:
            return self._without_holder(kind, run, began_at, "done" if b % 3 == 0 else "pending", size=1 + b % 4)
        return self._with_holder(kind, run, began_at, self.holders[-1 - b % len(self.holders)], a)

    def _with_claim(self, kind: str, claim: Claim, holder: Holder, *, odd: bool) -> Op:
        store, error, pause = self.store, DetectorFailed("503"), Throttled("429", retry_after_s=LEASE_S)
        match kind:
            case "commit":
                return Op(lambda: self._commit(claim, holder), lambda model: model.commit(claim))
            case "defer":
                return Op(lambda: store.defer(claim, error=error, timings={}), lambda model: model.fail(claim, permanent=False))
            case "quarantine":
                return Op(lambda: store.quarantine(claim, error=error, timings={}), lambda model: model.fail(claim, permanent=True))
            case "give back":
                return Op(lambda: store.give_back(claim, error=pause, not_before_s=LEASE_S), lambda model: model.give_back(claim))
        return Op(lambda: store.mark_alone(claim, holder, alone=not odd), lambda model: model.mark_alone(claim, holder, alone=not odd))

    def _without_holder(self, kind: str, run: Run, began_at: datetime, origin: Origin, *, size: int) -> Op:
        store, batch = self.store, run.batch_id
        match kind:
            case "begin":
                return Op(lambda: self._begin(run), lambda model: model.begin(batch))
            case "report":
                return Op(lambda: self._report(batch), lambda model: model.report(batch))
            case "requeue":
                return Op(lambda: store.requeue(run, began_at=began_at, actor="ann"), lambda model: model.requeue(batch, began_at=began_at))
            case "reap":
                return Op(store.reap_expired_chunks, StateModel.reap)
        return Op(
            lambda: self._claim(run, began_at, origin, size, None),
            lambda model: model.claim(batch, origin, began_at=began_at, size=size, holder=None),
        )

    def _with_holder(self, kind: str, run: Run, began_at: datetime, holder: Holder, a: int) -> Op:
        store, batch = self.store, run.batch_id
        number = max(0, self.state.batches[batch].next_chunk - 1 - a // 2)
        match kind:
            case "open":
                of, by = self._live_chunk(a, number), self._rival(self._live_chunk(a, number), holder, a)
                return Op(lambda: self._open(*of, by), lambda model: model.open(*of, by))
            case "renew":
                numbers = set(range(number + 1))
                return Op(
                    lambda: store.renew_chunks(batch, numbers, holder, lease_s=LEASE_S), lambda model: model.renew(batch, numbers, holder)
                )
            case "park":
                return Op(lambda: store.park_chunks(run, holder, lease_s=LEASE_S), lambda model: model.park(batch, holder))
            case "release":
                return Op(lambda: store.release_chunks(run, holder), lambda model: model.release(batch, holder))
            case "end":
                return Op(lambda: store.end_chunk(run, number, holder, tally={}), lambda model: model.end(batch, number, holder))
        origin: Origin = "done" if a > 6 else "pending"
        return Op(
            lambda: self._claim_and_open(run, began_at, origin, holder),
            lambda model: _claimed_and_opened(model, batch, origin, began_at, holder),
        )

    def _live_chunk(self, a: int, number: int) -> tuple[BatchId, int]:
        """One that has not ended, if there is one."""
        live = [key for key, chunk in self.state.chunks.items() if not chunk.ended]
        return live[-1 - a % len(live)] if live else (self.runs[a % 2].batch_id, number)

    def _rival(self, key: tuple[BatchId, int], holder: Holder, a: int) -> Holder:
        """Mostly another try of the task that has the chunk, earlier or later."""
        chunk = self.state.chunks.get(key)
        rivals = [each for each in self.holders if chunk and each.map_index == chunk.map_index]
        return rivals[a % len(rivals)] if rivals and a < 8 else holder

    def _begin(self, run: Run) -> None:
        self.began[self.runs.index(run)] = self.store.begin_batch(run)

    def _report(self, batch: BatchId) -> None:
        self.store.end_batch(batch)
        self.store.release_batch(batch)

    def _claim(self, run: Run, began_at: datetime, origin: Origin, size: int, holder: Holder | None) -> int | None:
        map_index, try_number = (holder.map_index, holder.try_number) if holder else (None, 0)
        return self.store.claim_chunk(
            run, began_at=began_at, origin=origin, map_index=map_index, try_number=try_number, lease_s=LEASE_S, size=size
        )

    def _open(self, batch: BatchId, number: int, holder: Holder) -> list[tuple[int, int]]:
        claims = self.store.open_chunk(batch, number, holder, lease_s=LEASE_S)
        assert [claim.lost for claim in claims] == sorted(claim.lost for claim in claims), "suspects come last"
        self.held += [Held(claim, holder) for claim in claims]
        return sorted((claim.record_id, claim.token) for claim in claims)

    def _claim_and_open(self, run: Run, began_at: datetime, origin: Origin, holder: Holder) -> list[tuple[int, int]] | None:
        number = self._claim(run, began_at, origin, 4, holder)
        return None if number is None else self._open(run.batch_id, number, holder)

    def _commit(self, claim: Claim, holder: Holder) -> None:
        run = next(run for run in self.runs if run.batch_id == claim.batch_id)
        timings = {"detect": 1.0}
        self.store.commit(claim, an_answer(), ARCHIVED, config="digest", image=IMAGE, run=run, holder=holder, timings=timings)

    # ── steps

    @rule(acts=st.lists(AN_ACT, min_size=1, max_size=8))
    def one_acts_after_the_other(self, acts: list[tuple[str, int, int]]) -> None:
        for act in acts:
            self._compare(self.op(*act))

    def _compare(self, op: Op) -> None:
        expected, said = copy.deepcopy(self.state), outcome(op.act)
        wanted = outcome(lambda: op.model(expected))
        after = self.load()
        assert said == wanted
        assert after == expected
        self.grow(after)

    @rule(acts=st.lists(AN_ACT, min_size=2, max_size=4))
    def several_act_at_once(self, acts: list[tuple[str, int, int]]) -> None:
        """The outcome may differ, but no deadlock is reported, and the invariants hold."""
        ops = [self.op(*act) for act in acts]
        for each in [self.db.meanwhile(partial(outcome, op.act)) for op in ops]:
            each.result(timeout=60)
        self.grow(self.load())

    @rule(which=st.integers(0, 9))
    def a_task_is_tried_again(self, which: int) -> None:
        former = self.holders[which % len(self.holders)]
        latest = max(holder.try_number for holder in self.holders if holder.map_index == former.map_index)
        self.holders.append(Holder(map_index=former.map_index, try_number=latest + 1))

    @rule()
    def time_passes(self) -> None:
        self.db.do("update anomaly.records set not_before = now() - interval '1 s' where not_before is not null")
        for record in self.state.records.values():
            record.due = True

    @rule(every=st.integers(1, 3))
    def leases_run_out(self, every: int) -> None:
        self.db.do("update anomaly.chunks set leased_until = now() - interval '1 s' where chunk %% %(every)s = 0", every=every)
        for (_, number), chunk in self.state.chunks.items():
            chunk.expired = chunk.expired or number % every == 0

    # ── what always holds

    @invariant()
    def nothing_is_wrong(self) -> None:
        for sentence, query in WRONG.items():
            assert self.db.rows(query, start=START) == [], sentence

    def grow(self, after: StateModel) -> None:
        """Tokens only grow, and nothing that was written down is ever changed."""
        before, self.state = self.state, after
        assert all(after.records[number].token >= record.token for number, record in before.records.items())
        assert before.results <= after.results
        assert before.log <= after.log

    def load(self) -> StateModel:
        [row] = self.db.rows(EVERYTHING)
        state = StateModel(results={tuple(pair) for pair in row["results"] or ()})
        for number, status, attempts, lost, token, batch, chunk, due, processed_at in row["records"]:
            of = (BatchId(UUID(batch)), chunk) if batch else None
            state.records[number] = Record(status, attempts, lost, token, of, due, a_time(processed_at))
        for batch, number, *rest in row["chunks"] or ():
            state.chunks[BatchId(UUID(batch)), number] = Chunk(*rest)
        for batch, began_at, *rest in row["batches"]:
            state.batches[BatchId(UUID(batch))] = Batch(a_time(began_at), *rest)
        state.log.update(tuple(entry) for entry in row["log"] or ())
        return state


def _claimed_and_opened(
    model: StateModel, batch: BatchId, origin: Origin, began_at: datetime, holder: Holder
) -> list[tuple[int, int]] | None:
    number = model.claim(batch, origin, began_at=began_at, size=4, holder=holder)
    return None if number is None else model.open(batch, number, holder)


@pytest.mark.timeout(1800)  # the long search, and the shortening of what fails
def test_whatever_happens_in_whatever_order_comes_to_what_the_table_of_states_says(database: str) -> None:
    with RecordsDb(database) as db:
        run_state_machine_as_test(partial(Model, db), settings=PROFILE)  # type: ignore[arg-type]  # whatever makes one will do
