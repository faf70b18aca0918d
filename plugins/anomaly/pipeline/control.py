"""Tells an outage of the detector from records at which it fails, by a request that should succeed."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from anomaly.errors import AnomalyError, DetectorFailed, DetectorOverloaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.models.answers import Answer
    from anomaly.pipeline.stages import Stage

log = logging.getLogger(__name__)


class ControlRequest:
    """One request at a time, which all records share that fail meanwhile.

    Args:
        request: the request to send: about a plain image at first, later the last one that was answered.
    """

    def __init__(self, stage: Stage, request: Callable[[], Answer]) -> None:
        self._stage = stage
        self.request = request
        self._task: asyncio.Task[bool] | None = None

    @property
    def in_flight(self) -> bool:
        return self._task is not None and not self._task.done()

    async def is_answered(self) -> bool:
        """Return whether the detector answers at all, whatever it answers."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send())
        return await asyncio.shield(self._task)

    async def _send(self) -> bool:
        try:
            await self._stage.run(self.request)
        except (DetectorFailed, DetectorOverloaded) as exc:
            log.info("the detector does not answer a control request: %s", exc)
            return False
        except AnomalyError as exc:
            log.info("the detector answers a control request: %s", exc)
        return True
