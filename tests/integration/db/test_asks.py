"""Asks: one record at a time, of any task, may ask about an image, until that record has ended."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from anomaly.db.contracts import SAMPLES
from anomaly.db.statements import default_statements
from anomaly.errors import DatabaseUnavailable, DetectorFailed, Misconfigured, Throttled
from anomaly.models.answers import AnswerLookup, ArchiveKeys, Ask, EarlierAnswer, FoundAnswer
from anomaly.models.runs import Holder
from tests.parts.record_builders import IMAGE, RecordsDb, an_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.records import Claim
    from anomaly.models.runs import Run

EARLIER = EarlierAnswer(answer_key="answers/1", heatmap_key="heatmaps/1")
ARCHIVED = ArchiveKeys(image_key="images/1", answer_key="answers/1", heatmap_key="heatmaps/1")
OWNED, TAKEN_OVER, ELSEWHERE = Ask.OWNED, Ask.TAKEN_OVER, Ask.ELSEWHERE
FAILED = DetectorFailed("503")


@dataclass
class Task:
    """One try of a task, with a chunk of so many records."""

    db: RecordsDb
    run: Run
    holder: Holder
    claims: tuple[Claim, ...]

    def looks(self, *images: str, by: int = 0, config: str = "c", run: Run | None = None, **fields: Any) -> dict[str, Any]:
        """Look images up for one of its records; answers without their time."""
        wanted = [AnswerLookup(claim=self.claims[by], image_sha256=image, **fields) for image in images]
        found = self.db.store.find_or_acquire_ask(run or self.run, self.holder, config=config, wanted=wanted)
        return {image: each.earlier if isinstance(each, FoundAnswer) else each for image, each in found.items()}

    def look(self, **how: Any) -> Any:
        """Look up the image i."""
        return self.looks("i", **how)["i"]

    def commit(self, image: str = "i", *, by: int = 0) -> None:
        what: dict[str, Any] = {"config": "c", "image": replace(IMAGE, sha256=image), "run": self.run, "holder": self.holder, "timings": {}}
        self.db.store.commit(self.claims[by], an_answer(), ARCHIVED, **what)

    def defer(self, *, by: int = 0) -> None:
        self.db.store.defer(self.claims[by], error=FAILED, timings={})

    def drop(self, image: str = "i") -> None:
        self.db.store.release_ask(self.run, self.claims[0], config="c", image_sha256=image)

    def next_try(self) -> Task:
        holder = Holder(map_index=self.holder.map_index, try_number=self.holder.try_number + 1)
        return Task(self.db, self.run, holder, self.db.open(self.claims[0].chunk, run=self.run, holder=holder))

    @property
    def record_id(self) -> int:
        return self.claims[0].record_id


def a_task(db: RecordsDb, map_index: int, *, of: str = "run", records: int = 1) -> Task:
    db.add(records)
    run, holder = db.run(of), Holder(map_index=map_index, try_number=1)
    return Task(db, run, holder, db.open(db.claim(run, size=records), run=run, holder=holder))


def asks(db: RecordsDb) -> list[tuple[str, int]]:
    """The images that are asked about, and for which record."""
    return [(row["image_sha256"], row["record_id"]) for row in db.rows("select * from anomaly.asks order by image_sha256")]


def grow_old(db: RecordsDb, **by: float) -> None:
    db.do("update anomaly.asks set asked_at = asked_at - %(by)s", by=timedelta(**by))


# ── turns


@pytest.mark.parametrize("other", ["run", "another run"])
def test_one_record_asks_and_those_of_other_tasks_wait_for_its_answer(db: RecordsDb, other: str) -> None:
    here, there = a_task(db, 0), a_task(db, 1, of=other)
    assert here.look() is OWNED
    assert there.look() is ELSEWHERE
    here.commit()
    assert there.look() == EARLIER


def test_a_turn_that_is_ours_stays_so_and_another_record_of_the_same_try_may_have_it(db: RecordsDb) -> None:
    here = a_task(db, 0, records=2)
    assert [here.look(by=number) for number in (0, 0, 1)] == [OWNED, OWNED, OWNED]
    assert asks(db) == [("i", here.claims[1].record_id)]


def test_other_images_and_other_configurations_are_asked_about_apart(db: RecordsDb) -> None:
    here, there = a_task(db, 0), a_task(db, 1)
    assert here.looks("i", "j") == {"i": OWNED, "j": OWNED}
    assert there.looks("j", "k") == {"j": ELSEWHERE, "k": OWNED}
    assert there.look(config="another") is OWNED


def test_a_fresh_run_asks_for_itself_alone(db: RecordsDb) -> None:
    here, there = a_task(db, 0), a_task(db, 0, of="another run")
    fresh_here, fresh_there = db.run(fresh=True), db.run("another run", fresh=True)
    assert [there.look(), there.look(run=fresh_there)] == [OWNED] * 2
    assert [here.look(), here.look(run=fresh_here)] == [ELSEWHERE, OWNED]
    assert a_task(db, 1).look(run=fresh_here) is ELSEWHERE
    there.commit()
    assert [here.look(), here.look(run=fresh_here)] == [EARLIER, OWNED], "an answer of another run is none to a fresh one"
    assert there.look(run=fresh_there) == EARLIER


def test_an_answer_that_is_gone_from_the_bucket_is_asked_for_by_one_and_only_a_newer_one_will_do(db: RecordsDb) -> None:
    here, there = a_task(db, 0, records=2), a_task(db, 1)
    here.commit()
    newer_than = db.rows("select created_at from anomaly.ai_results")[0]["created_at"]
    assert here.look(by=1, newer_than=newer_than) is OWNED
    assert there.look(newer_than=newer_than) is ELSEWHERE
    assert there.look() == EARLIER
    here.commit(by=1)
    assert there.look(newer_than=newer_than) == EARLIER


# ── how an ask ends

ENDS: dict[str, Callable[[Task], object]] = {
    "deferred": lambda task: task.defer(),
    "quarantined": lambda task: task.db.store.quarantine(task.claims[0], error=FAILED, timings={}),
    "given back": lambda task: task.db.store.give_back(task.claims[0], error=Throttled("429", retry_after_s=9), not_before_s=9),
    "released": lambda task: task.db.store.release_chunks(task.run, task.holder),
    "released with its batch": lambda task: task.db.store.release_batch(task.run.batch_id),
    "parked": lambda task: task.db.store.park_chunks(task.run, task.holder, lease_s=60),
    "opened by the next try": lambda task: task.next_try(),
    "not renewed": lambda task: task.db.do(
        "update anomaly.chunks set leased_until = now() - interval '1 s' where batch_id = %(batch_id)s", batch_id=task.run.batch_id
    ),
    "deleted by its owner": lambda task: task.db.do("delete from anomaly.records where id = %(id)s", id=task.record_id),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_ask_ends_with_its_record_and_whoever_takes_it_over_hears_that_there_may_be_an_answer(db: RecordsDb, end: str) -> None:
    here, there = a_task(db, 0), a_task(db, 0, of="another run")
    assert [here.look(), there.look()] == [OWNED, ELSEWHERE]
    ENDS[end](here)
    assert there.look() is TAKEN_OVER
    assert asks(db) == [("i", there.record_id)]


def test_a_lease_that_is_renewed_keeps_the_ask(db: RecordsDb) -> None:
    here, there = a_task(db, 0), a_task(db, 0, of="another run")
    here.look()
    db.expire()
    assert db.store.renew_chunks(here.run.batch_id, [here.claims[0].chunk], here.holder, lease_s=60)
    assert there.look() is ELSEWHERE


def test_the_next_try_takes_its_own_ask_over_and_the_others_go_on_waiting(db: RecordsDb) -> None:
    here, there = a_task(db, 0), a_task(db, 1)
    here.look()
    db.store.park_chunks(here.run, here.holder, lease_s=60)
    assert here.next_try().look() is OWNED
    assert there.look() is ELSEWHERE


def test_a_record_that_another_run_claimed_takes_its_own_ask_over_and_was_looked_for_in_the_bucket_before(db: RecordsDb) -> None:
    here = a_task(db, 0)
    here.look()
    db.store.release_batch(here.run.batch_id)
    run = db.run("another run")
    claims = db.open(db.claim(run), run=run, holder=here.holder)
    assert claims[0].held_before
    assert Task(db, run, here.holder, claims).look() is OWNED


def test_an_ask_that_is_dropped_is_free_although_its_record_stays_claimed(db: RecordsDb) -> None:
    here, there = a_task(db, 0), a_task(db, 1)
    here.look()
    here.drop()
    assert there.look() is OWNED


def test_dropping_an_ask_that_is_someone_elses_by_now_changes_nothing(db: RecordsDb) -> None:
    here, there = a_task(db, 0), a_task(db, 1)
    there.look()
    here.drop()
    there.drop("j")
    db.store.release_ask(db.run(fresh=True), there.claims[0], config="c", image_sha256="i")
    db.store.release_ask(there.run, there.claims[0], config="another", image_sha256="i")
    assert asks(db) == [("i", there.record_id)]


# ── at once


def test_of_two_who_meet_a_new_image_at_once_one_asks(db: RecordsDb) -> None:
    here, there = a_task(db, 0), a_task(db, 1)
    gate = db.gate("asks", "insert")
    with gate.shut():
        both = [db.meanwhile(here.look), db.meanwhile(there.look)]
        db.await_blocked(2)
    assert {each.result(timeout=10) for each in both} == {OWNED, ELSEWHERE}


def test_of_two_who_find_an_ask_dead_at_once_one_takes_it_over(db: RecordsDb) -> None:
    dead, here, there = (a_task(db, number) for number in range(3))
    dead.look()
    dead.defer()
    gate = db.gate("asks", "insert")
    with gate.shut():
        both = [db.meanwhile(here.look), db.meanwhile(there.look)]
        db.await_blocked(2)
    assert {each.result(timeout=10) for each in both} == {TAKEN_OVER, ELSEWHERE}


def test_groups_in_any_order_wait_for_each_other_without_a_deadlock(db: RecordsDb) -> None:
    here, there = a_task(db, 0), a_task(db, 1)
    gate = db.gate("asks", "insert", f"new.image_sha256 = 'b' and new.record_id = {here.record_id}")
    with gate.shut():
        first = db.meanwhile(lambda: here.looks("a", "b", "c"))
        db.await_blocked()
        second = db.meanwhile(lambda: there.looks("c", "b", "a"))
        db.await_blocked(2)
    assert first.result(timeout=10) == dict.fromkeys("abc", OWNED)
    assert second.result(timeout=10) == dict.fromkeys("abc", ELSEWHERE)
    assert db.waits == [], "no statement was repeated"


def test_an_answer_that_is_committed_while_the_statement_runs_is_not_asked_for_again(db: RecordsDb) -> None:
    here, there = a_task(db, 0), a_task(db, 1)
    gate = db.gate("asks", "insert", "new.image_sha256 = 'a'")
    with gate.shut():
        late = db.meanwhile(lambda: there.looks("a", "i"))
        db.await_blocked()
        assert here.look() is OWNED
        here.commit()
    assert late.result(timeout=10) == {"a": OWNED, "i": ELSEWHERE}
    assert there.look() == EARLIER


def test_an_ask_that_someone_took_over_while_the_statement_runs_is_left_to_them(db: RecordsDb) -> None:
    dead, here, there = (a_task(db, number) for number in range(3))
    dead.look()
    dead.defer()
    gate = db.gate("asks", "insert", "new.image_sha256 = 'a'")
    with gate.shut():
        late = db.meanwhile(lambda: there.looks("a", "i"))
        db.await_blocked()
        assert here.look() is TAKEN_OVER
    assert late.result(timeout=10) == {"a": OWNED, "i": ELSEWHERE}


def test_an_ask_that_is_being_dropped_is_theirs_until_it_is(db: RecordsDb) -> None:
    here, there = a_task(db, 0), a_task(db, 1)
    here.look()
    gate = db.gate("asks", "delete")
    with gate.shut():
        drop = db.meanwhile(here.drop)
        db.await_blocked()
        assert there.look() is ELSEWHERE
    drop.result(timeout=10)
    assert there.look() is OWNED


# ── failures


def trigger(db: RecordsDb, name: str, when: str, does: str) -> None:
    """Before each row of the asks is written so, something happens."""
    row = "old" if when == "delete" else "new"
    db.do(f"create function anomaly.{name}() returns trigger language plpgsql as $$ begin {does}; return {row}; end $$")
    db.do(f"create trigger {name} before {when} on anomaly.asks for each row execute function anomaly.{name}()")


@pytest.mark.parametrize(("when", "of"), [("insert", "c"), ("update", "b"), ("delete", "z")])
def test_a_look_up_that_fails_at_any_of_its_parts_leaves_the_asks_as_they_were(db: RecordsDb, when: str, of: str) -> None:
    here = a_task(db, 0, records=3)
    here.looks("b")
    here.looks("z", by=1)
    here.commit("z", by=1)
    grow_old(db, minutes=2)
    before = asks(db)
    row = "old" if when == "delete" else "new"
    trigger(db, "fails", when, f"if {row}.image_sha256 = '{of}' then raise 'no'; end if")
    with pytest.raises((DatabaseUnavailable, Misconfigured)):
        here.looks("a", "b", "c", by=2)
    assert asks(db) == before
    db.do("drop trigger fails on anomaly.asks")
    assert here.looks("a", "b", "c", by=2) == dict.fromkeys("abc", OWNED)
    assert [image for image, _ in asks(db)] == ["a", "b", "c"]


def test_a_drop_that_fails_leaves_the_ask(db: RecordsDb) -> None:
    here = a_task(db, 0)
    here.look()
    trigger(db, "fails", "delete", "raise 'no'")
    with pytest.raises((DatabaseUnavailable, Misconfigured)):
        here.drop()
    assert asks(db) == [("i", here.record_id)]


def test_a_look_up_whose_connection_died_is_repeated_and_the_turn_is_still_ours(db: RecordsDb) -> None:
    here = a_task(db, 0)
    gate = db.gate("asks", "insert")
    with gate.shut():
        cut = db.meanwhile(here.look)
        db.await_blocked()
        db.now_s += db.settings.db_call_deadline_s + 1
        assert db.store.shut_overdue_calls() == 1
        db.await_blocked(2)
    assert cut.result(timeout=10) in {OWNED, ELSEWHERE}
    assert db.waits == [0.1]
    assert here.look() is OWNED
    assert asks(db) == [("i", here.record_id)]


# ── the table stays small


def test_old_asks_go_as_new_ones_come_but_for_those_whose_records_are_due_again(db: RecordsDb) -> None:
    here = a_task(db, 0, records=4)
    for number, image in enumerate(["done", "failed", "left"]):
        here.looks(image, by=number)
    here.commit("done")
    db.store.quarantine(here.claims[1], error=FAILED, timings={})
    here.defer(by=2)
    here.looks("a", by=3)
    assert [image for image, _ in asks(db)] == ["a", "done", "failed", "left"], "young ones stay"
    grow_old(db, minutes=2)
    here.looks("b", by=3)
    assert [image for image, _ in asks(db)] == ["a", "b", "left"]
    grow_old(db, days=1)
    here.looks("c", "d", by=3)
    assert [image for image, _ in asks(db)] == ["c", "d"]


def test_whoever_asks_nothing_sweeps_nothing(db: RecordsDb) -> None:
    here, there = a_task(db, 0), a_task(db, 1)
    here.look()
    here.commit()
    grow_old(db, minutes=2)
    there.look()
    assert asks(db) == [("i", here.record_id)]


def test_a_sweep_waits_for_nobody(db: RecordsDb) -> None:
    here = a_task(db, 0, records=2)
    here.looks("x", "y", "z")
    here.commit()
    grow_old(db, minutes=2)
    with psycopg.connect(db.dsn) as other:
        other.execute("select from anomaly.asks where image_sha256 = 'x' for update")
        here.looks("a", by=1)
    assert [image for image, _ in asks(db)] == ["a", "x"]


def test_a_look_up_reads_by_keys_alone_on_tables_that_nobody_analysed(db: RecordsDb) -> None:
    for table in ("records", "chunks", "ai_results", "asks"):
        db.do(f"alter table anomaly.{table} set (autovacuum_enabled = false)")
    db.add(20_000, status="done")
    db.do(
        """insert into anomaly.ai_results (record_id, token, detector, config, score, is_anomaly, image_sha256, image_key, answer_key,
                                           latency_ms, dag_id, run_id, map_index, try_number)
           select i, 2, 'd@1', 'c', 0, false, md5(i::text), 'k', 'k', 0, 'dag', 'run', 0, 1 from generate_series(1, 20000) as i"""
    )
    db.do(
        """insert into anomaly.asks (image_sha256, config, scope, record_id, token, batch_id, chunk, asked_at)
           select md5(i::text), 'c', %(every)s, i, 2, %(every)s, i, now() - interval '2 minutes' from generate_series(1, 20000) as i""",
        every=SAMPLES["scope"],
    )
    images = [f"image {n}" for n in range(32)]
    params = {"config": "c", "image_sha256s": images, "record_ids": [1] * 32, "tokens": [2] * 32, "chunk_numbers": [0] * 32}
    with db.sql.transaction(force_rollback=True):
        [row] = db.rows(
            f"explain (analyze, format json) {default_statements()['find_or_acquire_ask']}",
            **{**SAMPLES, **params, "newer_than": [None] * 32},
        )
    plan = json.dumps(row["QUERY PLAN"])
    assert "Seq Scan" not in plan
    for index in ("ai_results_answers", "asks_pkey", "asks_asked_at", "records_pkey", "chunks_pkey"):
        assert f'"Index Name": "{index}"' in plan
