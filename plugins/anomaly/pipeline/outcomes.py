"""Writes down how a record ends that gets no verdict: quarantined, deferred, or given back."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from anomaly.pipeline.stages import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.errors import AnomalyError, Throttled
    from anomaly.models.records import Claim
    from anomaly.pipeline.record import Work
    from anomaly.pipeline.stages import Stage

log = logging.getLogger(__name__)


class EndingStore(Protocol):
    """Each returns the record's status now, or raises LeaseLost."""

    def defer(self, claim: Claim, *, error: AnomalyError, timings: dict[str, float]) -> str: ...
    def quarantine(self, claim: Claim, *, error: AnomalyError, timings: dict[str, float]) -> str: ...
    def give_back(self, claim: Claim, *, error: AnomalyError, not_before_s: float) -> str: ...


@dataclass(frozen=True, slots=True, eq=False)
class Ending:
    """A record, and how it is to end."""

    work: Work
    event: str
    error: AnomalyError
    write: Callable[[], str]


class Endings:
    """For the loop's thread.

    Args:
        ended: goes on with the record, the event and the error, once it is written down.
        failed: decides what follows when it could not be.
    """

    def __init__(
        self,
        *,
        store: EndingStore,
        stage: Stage,
        ended: Callable[[Work, str, AnomalyError], None],
        failed: Callable[[Step, Ending, BaseException], None],
    ) -> None:
        self._store = store
        self._tell_ended = ended
        self._step = Step("end", stage, lambda ending: ending.write(), self._ended, lambda ending, error: failed(self._step, ending, error))

    def quarantine(self, work: Work, error: AnomalyError) -> None:
        """It can never succeed."""
        self._write(work, "quarantined", error, partial(self._store.quarantine, work.claim, error=error, timings=dict(work.timings)))

    def defer(self, work: Work, error: AnomalyError) -> None:
        """It has failed for now; a later run takes it."""
        self._write(work, "deferred", error, partial(self._store.defer, work.claim, error=error, timings=dict(work.timings)))

    def give_back(self, work: Work, error: Throttled) -> None:
        """The detector has no time for it; no attempt is counted."""
        self._write(work, "throttled", error, partial(self._store.give_back, work.claim, error=error, not_before_s=error.retry_after_s))

    def _write(self, work: Work, event: str, error: AnomalyError, write: Callable[[], str]) -> None:
        self._step.stage.submit(self._step, Ending(work, event, error, write))

    def _ended(self, ending: Ending, status: str) -> None:
        work, error = ending.work, ending.error
        log.warning("record %s id=%d status=%s %s: %s", ending.event, work.claim.record_id, status, error.code, error)
        self._tell_ended(work, "quarantined" if status == "quarantined" else ending.event, error)
