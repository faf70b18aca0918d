from __future__ import annotations

from dataclasses import dataclass, field

from anomaly.errors import DatabaseUnavailable
from anomaly.pipeline.lease import LeaseRenewer


@dataclass
class Scene:
    """A keeper whose database and clock are in the test's hand; nothing runs unless the test calls it."""

    ours: set[int] = field(default_factory=set)
    down: bool = False
    now: float = 1000.0
    lost: list[int] = field(default_factory=list)
    during_renewal: float = 0.0
    asked_for: list[set[int]] = field(default_factory=list)

    def keeper(self) -> LeaseRenewer:
        return LeaseRenewer(lease_s=60, renew=self.renew, shut_overdue_calls=lambda: 0, on_lost=self.lost.append, clock=lambda: self.now)

    def renew(self, held: set[int]) -> set[int]:
        self.asked_for.append(held)
        self.now += self.during_renewal
        if self.down:
            raise DatabaseUnavailable("no answer")
        return set(self.ours)


def test_a_chunk_that_the_database_says_is_not_ours_is_lost_and_told_once() -> None:
    scene = Scene(ours={1})
    keeper = scene.keeper()
    keeper.hold(1, since=scene.now)
    keeper.hold(2, since=scene.now)
    assert keeper.renew_once()
    keeper.renew_once()
    assert scene.lost == [2]


def test_without_a_renewal_within_the_lease_everything_is_lost_whatever_the_database_says_later() -> None:
    scene = Scene(ours={1}, down=True)
    keeper = scene.keeper()
    keeper.hold(1, since=scene.now)
    scene.now += 59
    assert not keeper.renew_once()
    keeper.expire()
    assert scene.lost == []
    scene.now += 1
    keeper.expire()
    scene.down = False
    keeper.renew_once()
    assert scene.lost == [1]


def test_a_chunk_that_was_given_up_is_never_renewed_again() -> None:
    scene = Scene(ours={1, 2})
    keeper = scene.keeper()
    keeper.hold(1, since=scene.now - 60)
    keeper.hold(2, since=scene.now)
    keeper.renew_once()
    assert scene.lost == [1]
    assert scene.asked_for == [{2}]


def test_a_renewal_counts_from_when_it_was_asked_for_and_not_from_its_answer() -> None:
    scene = Scene(ours={1}, during_renewal=30)
    keeper = scene.keeper()
    keeper.hold(1, since=scene.now)
    keeper.renew_once()
    scene.now += 30
    keeper.expire()
    assert scene.lost == [1]


def test_a_chunk_opened_while_a_renewal_is_under_way_is_not_lost_by_it() -> None:
    lost: list[int] = []

    def renew_while_another_opens(_held: set[int]) -> set[int]:
        keeper.hold(2, since=0.0)
        return {1}

    keeper = LeaseRenewer(lease_s=60, renew=renew_while_another_opens, shut_overdue_calls=lambda: 0, on_lost=lost.append, clock=lambda: 0.0)
    keeper.hold(1, since=0.0)
    keeper.renew_once()
    assert lost == []


def test_a_dropped_chunk_is_never_lost() -> None:
    scene = Scene()
    keeper = scene.keeper()
    keeper.hold(1, since=scene.now)
    keeper.drop(1)
    keeper.renew_once()
    scene.now += 100
    keeper.expire()
    assert scene.lost == []
