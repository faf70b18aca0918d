"""What was answered before is not asked again, and an image is asked about by one record at a time, whichever task works it.

Records with the same image share a request. Within a task they wait for it in here. Across tasks the database says whose turn it is, by
the same statement that looks for earlier answers, a group of images at a time; those whose turn it is not look again after a while.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from anomaly.models.answers import Ask
from anomaly.pipeline.stages import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.records import Claim
    from anomaly.pipeline.record import Work
    from anomaly.pipeline.stages import Loop, Stage

log = logging.getLogger(__name__)

GROUP = 32
"""Records that one statement looks up: their share of a round trip is small."""
WAIT_S = 0.05
"""How long a record waits for its group to fill while the detector runs short of work."""
AGAIN_S = 0.5
"""How long a record waits that another task asks for, until it is looked up again."""


class Next(Protocol):
    """What becomes of a record; the pipeline decides."""

    def goes_on(self, work: Work) -> bool: ...
    def answered(self, work: Work) -> None: ...
    def unanswered(self, work: Work) -> None: ...
    def failed(self, step: Step, work: Work, error: BaseException) -> None: ...


class Reuse:
    """Records that have their image and no answer yet. For the loop's thread.

    Args:
        find: looks up earlier answers to a group of records and whose turn it is to ask about the others, by one statement.
        drop: gives the turn up that a record has with an image.
        read: reads the answer of one record that was found, or that may be there.
        reading: the stage on which it does so.
    """

    def __init__(
        self,
        *,
        find: Callable[[list[Work]], None],
        drop: Callable[[Claim, str], None],
        read: Callable[[Work], None],
        reading: Stage,
        then: Next,
        loop: Loop,
        clock: Callable[[], float],
    ) -> None:
        self._then = then
        self._loop = loop
        self._clock = clock
        self._group: list[Work] = []
        self._since = 0.0
        self._sharing: dict[str, tuple[Work, list[Work]]] = {}
        """By the image's SHA-256: the record that is asked about, and those that wait for its answer."""
        self._elsewhere: list[Work] = []
        """Those whose image someone else asks about."""
        finding = loop.stage("look_up", workers=1)
        self._find = Step("look_up", finding, find, lambda group, _: self._found(group), self._not_found)
        self._find_one = Step("look_up", finding, lambda work: find([work]), lambda work, _: self._found([work]), self._failed_one)
        self._drop = Step("release_ask", finding, lambda ask: drop(*ask), lambda _ask, _result: None, _not_dropped)
        self._read = Step("reuse", reading, read, self._was_read, lambda work, error: then.failed(self._read, work, error))

    def add(self, work: Work) -> None:
        """Find an answer to the record's image, or share one that is under way, here or in another task; else it is `unanswered`."""
        sha256 = _sha256(work)
        if sha256 in self._sharing:
            self._sharing[sha256][1].append(work)
            return
        self._sharing[sha256] = (work, [])
        self._look_up(work)

    def _look_up(self, work: Work) -> None:
        if not self._group:
            self._since = self._clock()
            self._loop.call_later(WAIT_S, lambda: None)  # so that the loop looks around when the group has waited enough
        self._group.append(work)

    def start(self, *, hungry: bool, fetching: bool) -> None:
        """Look the next group up: once it is full, or when the detector is *hungry* and waiting would add few or none."""
        if not self._group or self._find.stage.busy:
            return
        waited = not fetching or self._clock() - self._since >= WAIT_S
        if len(self._group) >= GROUP or (hungry and waited):
            group, self._group = self._group, []
            self._find.stage.submit(self._find, group)

    def settle(self, work: Work, *, left: bool = False) -> None:
        """The record has its answer, or ends without one: its image's others share the answer, or the next of them is asked about.

        One that is *left* stays claimed for the task's next try, so no other task would find out that it asks no more.
        """
        sha256 = _sha256(work)
        if self._sharing.get(sha256, (None, []))[0] is not work:
            return
        _, waiting = self._sharing.pop(sha256)
        for other in waiting:
            if not self._then.goes_on(other):
                continue
            if work.answer is None:
                self.add(other)
                continue
            other.answer, other.earlier = replace(work.answer, reused=True, latency_ms=0.0), work.earlier
            self._then.answered(other)
        if left and work.turn in {Ask.OWNED, Ask.TAKEN_OVER} and sha256 not in self._sharing:
            self._drop.stage.submit(self._drop, (work.claim, sha256))

    def _found(self, group: list[Work]) -> None:
        for work in group:
            if not self._then.goes_on(work):
                continue
            match work.turn:
                case Ask.OWNED:
                    self._then.unanswered(work)
                case Ask.ELSEWHERE:
                    self._wait(work)
                case _:
                    self._read.stage.submit(self._read, work)

    def _wait(self, work: Work) -> None:
        if not self._elsewhere:
            self._loop.call_later(AGAIN_S, self._look_again)
        self._elsewhere.append(work)

    def _look_again(self) -> None:
        """For an answer, or for the turn, should whoever had it be gone."""
        waited, self._elsewhere = self._elsewhere, []
        for work in waited:
            if self._then.goes_on(work):
                self._look_up(work)

    def _not_found(self, group: list[Work], error: BaseException) -> None:
        for work in group:
            self._then.failed(self._find_one, work, error)

    def _failed_one(self, work: Work, error: BaseException) -> None:
        self._then.failed(self._find_one, work, error)

    def _was_read(self, work: Work, _result: None) -> None:
        if not self._then.goes_on(work):
            return
        if work.answer is not None:
            self._then.answered(work)
        elif work.turn is None:  # what was found is gone from the bucket
            self._look_up(work)
        else:
            self._then.unanswered(work)


def _not_dropped(ask: tuple[Claim, str], error: BaseException) -> None:
    log.warning("others wait for record id=%d until the task's try ends: %s", ask[0].record_id, error)


def _sha256(work: Work) -> str:
    return work.image.sha256 if work.image else ""
