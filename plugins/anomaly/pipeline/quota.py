"""Asks the fleet for this task's part of the detector, once a second at most while nothing changes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from anomaly.errors import AnomalyError, Retryable
from anomaly.models.quota import Demand
from anomaly.pipeline.stages import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.quota import Quota, Share
    from anomaly.pipeline.stages import Loop
    from anomaly.pipeline.throttle import Throttle

log = logging.getLogger(__name__)

EVERY_S = 1.0
SELDOM_S = 5.0
"""How often the fleet is heard where no limit is stated, and only a pause is to be told."""


class Fleet(Protocol):
    @property
    def quota(self) -> Quota: ...

    @property
    def expires_s(self) -> float:
        """For how long a share is good."""
        ...

    def share(self, demand: Demand) -> Share: ...


class Sharing:
    """For the loop's thread.

    Args:
        held: is told for how many seconds the fleet is to leave the detector alone.
        stop: is told why there can be no share.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        throttle: Throttle,
        loop: Loop,
        held: Callable[[float], None],
        stop: Callable[[BaseException], None],
        clock: Callable[[], float],
    ) -> None:
        self._fleet = fleet
        self._throttle = throttle
        self._loop = loop
        self._held = held
        self._stop = stop
        self._clock = clock
        self._every_s = EVERY_S if fleet.quota.stated else SELDOM_S
        self._next_at = clock()
        self._asked_at = self._woken_at = float("-inf")
        self._hold_s = 0.0
        self._share = Step("share", loop.stage("share", workers=1), fleet.share, self._shared, self._not_shared)

    def tell(self, hold_s: float) -> None:
        """Let the others know that the detector wants to be left alone for so long."""
        self._hold_s = max(self._hold_s, hold_s)
        self._next_at = min(self._next_at, self._clock())

    def go_on(self, *, waiting: int) -> None:
        """Ask for the next share when it is time; *waiting* records could be asked about."""
        now = self._clock()
        if self._share.stage.busy:
            return
        if now < self._next_at:
            if waiting and self._fleet.quota.stated and self._woken_at != self._next_at:
                self._woken_at = self._next_at
                self._loop.call_later(self._next_at - now, lambda: None)  # so that the loop looks around when it is time
            return
        self._asked_at, self._next_at = now, now + self._every_s
        demand, self._hold_s = self._throttle.demand(waiting=waiting, hold_s=self._hold_s), 0.0
        self._share.stage.submit(self._share, demand)

    def leave(self) -> None:
        """Give the part back, by the caller's own thread; where that fails it expires."""
        if not self._fleet.quota.stated:
            return
        try:
            self._fleet.share(Demand(unused=self._throttle.demand(waiting=0, hold_s=0.0).unused))
        except AnomalyError as exc:
            log.info("the part of the detector is left to expire: %s", exc)

    def _shared(self, demand: Demand, share: Share) -> None:
        self._throttle.take(share, until=self._asked_at + self._fleet.expires_s)
        if share.hold_s > max(0.1, self._throttle.wait_s()):
            self._held(share.hold_s)
        log.debug("detector shared wanted=%d concurrency=%d requests=%d", demand.wanted, share.concurrency, share.requests)

    def _not_shared(self, demand: Demand, error: BaseException) -> None:
        log.warning("part of the detector not renewed: %s", error)
        self._hold_s = max(self._hold_s, demand.hold_s)
        if not isinstance(error, Retryable):
            self._stop(error)
