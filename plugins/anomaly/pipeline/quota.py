"""Renews this task's share of the detector's quota, and passes on pauses that the detector asks for."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from anomaly.errors import AnomalyError, Retryable

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    from anomaly.pipeline.parts import Parts
    from anomaly.pipeline.stages import Stage
    from anomaly.pipeline.throttle import Throttle

log = logging.getLogger(__name__)

RENEWAL_S = 1.0
PAUSE_CHECK_S = 5.0
"""Seconds between two renewals where no limit is stated, and only pauses are shared."""


class QuotaSharing:
    """For the event loop's thread.

    Args:
        waiting: the records that wait to be asked about.
        on_share: called after each renewal with the seconds for which all tasks are to leave the detector alone.
    """

    def __init__(self, parts: Parts, *, throttle: Throttle, stage: Stage, waiting: Sized, on_share: Callable[[float], None]) -> None:
        self._fleet, self._clock = parts.fleet, parts.clock
        self._throttle = throttle
        self._stage = stage
        self._waiting = waiting
        self._on_share = on_share
        self._renewal_s = RENEWAL_S if parts.fleet.quota.stated else PAUSE_CHECK_S
        self._pause_s = 0.0
        self._news = asyncio.Event()

    def report_answer(self) -> None:
        """Let the other tasks know, without delay, if the detector has answered the single request after a long pause."""
        if self._throttle.answers:
            self._news.set()

    def report_pause(self, pause_s: float) -> None:
        """Let the other tasks know, without delay, that the detector asks for a pause."""
        self._pause_s = max(self._pause_s, pause_s)
        self._news.set()

    async def renew(self) -> None:
        """Renew the share until cancelled.

        Raises:
            RunStopped: there can be no share.
        """
        while True:
            self._news.clear()
            demand, self._pause_s = self._throttle.demand(waiting=len(self._waiting), hold_s=self._pause_s), 0.0
            asked_at = self._clock()
            try:
                share = await self._stage.run(self._fleet.share, demand)
            except Retryable as exc:
                log.warning("share of the detector not renewed: %s", exc)
                self._pause_s = max(self._pause_s, demand.hold_s)
            else:
                log.debug("detector shared wanted=%d concurrency=%d starts=%d", demand.wanted, share.concurrency, len(share.starts))
                self._throttle.take(share, asked_at=asked_at, expires_s=self._fleet.expires_s)
                self._on_share(share.hold_s)
            try:
                async with asyncio.timeout_at(asked_at + self._renewal_s):
                    await self._news.wait()
            except TimeoutError:
                continue

    def leave(self) -> None:
        """Give the share back. Blocks; where it fails, the share expires."""
        if not self._fleet.quota.stated:
            return
        try:
            self._fleet.share(self._throttle.leave())
        except AnomalyError as exc:
            log.info("the share of the detector expires by itself: %s", exc)
