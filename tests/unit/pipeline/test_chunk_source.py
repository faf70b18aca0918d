"""Where a task's chunks come from, and that none of them is forgotten when the database fails in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from anomaly import errors
from anomaly.models.runs import BatchId, Chunk, Holder
from anomaly.pipeline.chunk_source import ChunkSource
from tests.parts.fakes import BATCH, RUN, FakeStore, claims, once

if TYPE_CHECKING:
    from anomaly.models.records import Claim

FIRST = Chunk(batch_id=BATCH, number=0, began_at=datetime(2026, 1, 1, tzinfo=UTC))


def a_source(store: FakeStore, *, try_number: int = 1) -> ChunkSource:
    return ChunkSource(run=RUN, holder=Holder(map_index=0, try_number=try_number), first=FIRST, store=store, lease_s=60)


def numbers(source: ChunkSource) -> list[int]:
    """The chunks that it hands out until it has none."""
    found = []
    while chunk := source.next():
        found.append(chunk.number)
    return found


def test_the_task_works_its_own_chunk_and_then_claims_until_nothing_is_due() -> None:
    assert numbers(a_source(FakeStore([claims([n], chunk=n) for n in range(3)]))) == [0, 1, 2]


def test_a_second_try_works_what_the_first_one_left_before_it_claims() -> None:
    store = FakeStore([claims([n], chunk=n) for n in range(5)], claimed=3, ended={0: {}})
    store.fails = lambda name, number: errors.LeaseLost("ended") if (name, number) == ("open_chunk", 0) else None
    assert numbers(a_source(store, try_number=2)) == [1, 2, 3, 4]


@dataclass
class Rows(FakeStore):
    """Remembers what was asked for."""

    asked: list[str] = field(default_factory=list)

    def unfinished_chunks(self, batch_id: BatchId, holder: Holder) -> list[int]:
        self.asked.append("unfinished_chunks")
        return super().unfinished_chunks(batch_id, holder)


def test_a_first_try_whose_claims_are_answered_looks_for_nothing_else() -> None:
    store = Rows([claims([n], chunk=n) for n in range(3)])
    numbers(a_source(store))
    assert store.asked == []


@pytest.mark.parametrize("try_number", [1, 2])
def test_a_chunk_whose_claim_lost_its_answer_is_found_and_worked_once(try_number: int) -> None:
    gone = once(errors.DatabaseUnavailable("cut"))
    store = FakeStore([claims([n], chunk=n) for n in range(4)])
    store.fails = lambda name, number: gone() if (name, number) == ("claim_chunk", 2) else None
    source = a_source(store, try_number=try_number)
    assert [source.next(), source.next()] != [None, None]
    with pytest.raises(errors.DatabaseUnavailable):
        source.next()
    assert numbers(source) == [2, 3]


def test_a_chunk_that_could_not_be_opened_comes_first_when_asked_again() -> None:
    gone = once(errors.DatabaseUnavailable("cut"))
    store = FakeStore([claims([n], chunk=n) for n in range(2)])
    store.fails = lambda name, number: gone() if (name, number) == ("open_chunk", 0) else None
    source = a_source(store)
    with pytest.raises(errors.DatabaseUnavailable):
        source.next()
    assert numbers(source) == [0, 1]


def test_a_chunk_of_which_nothing_is_left_is_passed_over() -> None:
    nothing: tuple[Claim, ...] = ()
    assert numbers(a_source(FakeStore([nothing, claims([1], chunk=1)]))) == [1]


def test_a_chunk_that_is_someone_elses_is_passed_over() -> None:
    store = FakeStore([claims([0]), claims([1], chunk=1)])
    store.fails = lambda name, number: errors.LeaseLost("not ours") if (name, number) == ("open_chunk", 0) else None
    assert numbers(a_source(store)) == [1]
