"""What was answered before is not asked again: earlier answers are looked up in groups, and records with the same image share a request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from anomaly.stages import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.stages import Loop, Stage
    from anomaly.steps import Work

GROUP = 32
"""Records that one statement looks up: their share of a round trip is small."""
WAIT_S = 0.05
"""How long a record waits for its group to fill while the detector runs short of work."""


class Next(Protocol):
    """What becomes of a record; the pipeline decides."""

    def goes_on(self, work: Work) -> bool: ...
    def answered(self, work: Work) -> None: ...
    def unanswered(self, work: Work) -> None: ...
    def failed(self, step: Step, work: Work, error: BaseException) -> None: ...


class Reuse:
    """Records that have their image and no answer yet. For the loop's thread.

    Args:
        find: looks up earlier answers to a group of records, by one statement.
        read: reads the earlier answer of one record.
        reading: the stage on which it does so.
    """

    def __init__(
        self,
        *,
        find: Callable[[list[Work]], None],
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
        finding = loop.stage("look_up", workers=1)
        self._find = Step("look_up", finding, find, lambda group, _: self._found(group), self._not_found)
        self._find_one = Step("look_up", finding, lambda work: find([work]), lambda work, _: self._found([work]), self._failed_one)
        self._read = Step("reuse", reading, read, self._was_read, lambda work, error: then.failed(self._read, work, error))

    def add(self, work: Work) -> None:
        """Find an answer to the record's image, or share the one that is under way; else it is `unanswered`."""
        sha256 = _sha256(work)
        if sha256 in self._sharing:
            self._sharing[sha256][1].append(work)
            return
        self._sharing[sha256] = (work, [])
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

    def settle(self, work: Work) -> None:
        """The record has its answer, or ends without one: its image's others share the answer, or the next of them is asked about."""
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

    def _found(self, group: list[Work]) -> None:
        for work in group:
            if not self._then.goes_on(work):
                continue
            if work.earlier is None:
                self._then.unanswered(work)
            else:
                self._read.stage.submit(self._read, work)

    def _not_found(self, group: list[Work], error: BaseException) -> None:
        for work in group:
            self._then.failed(self._find_one, work, error)

    def _failed_one(self, work: Work, error: BaseException) -> None:
        self._then.failed(self._find_one, work, error)

    def _was_read(self, work: Work, _result: None) -> None:
        if not self._then.goes_on(work):
            return
        if work.answer is None:
            self._then.unanswered(work)
        else:
            self._then.answered(work)


def _sha256(work: Work) -> str:
    return work.image.sha256 if work.image else ""
