"""Where a task's chunks come from: its own first, then further ones of the same window until nothing is due."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.errors import LeaseLost
from anomaly.metrics import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anomaly.metrics import Metrics
    from anomaly.models.records import Claim
    from anomaly.models.runs import Chunk, Holder, Origin, Run
    from anomaly.pipeline.parts import ChunkStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenChunk:
    """A chunk that is ours to work."""

    number: int
    claims: tuple[Claim, ...]
    since: float
    """Monotonic time before the lease was asked for."""


def origins_of(run: Run) -> list[Origin]:
    """The statuses that a run claims from, in this order."""
    return ["pending", "done"] if run.select == "all" else ["pending"]


class Feed:
    """Hands out one open chunk after another. Its methods block.

    Args:
        learn: adds to claims whose images are known what was said about them before.
    """

    def __init__(
        self,
        *,
        run: Run,
        holder: Holder,
        first: Chunk,
        store: ChunkStore,
        lease_s: float,
        learn: Callable[[Sequence[Claim]], tuple[Claim, ...]] = tuple,
        metrics: Metrics = SILENT,
    ) -> None:
        self._run = run
        self._holder = holder
        self._began_at = first.began_at
        self._store = store
        self._lease_s = lease_s
        self._learn = learn
        self._metrics = metrics
        self._own = [first.number]
        self._opened: set[int] = set()
        self._unsure = holder.try_number > 1
        """Whether the database may hold a chunk for us that we do not know of."""
        self._origins = origins_of(run)

    def next(self) -> OpenChunk | None:
        """The next chunk with records in it; None when this run has nothing more for us. To be called again after an error.

        Raises:
            DatabaseUnavailable: nothing that is ours is forgotten; a claim whose answer was lost is found again.
        """
        while True:
            if self._unsure:
                self._find_unopened()
            while self._own:
                if (chunk := self._open(self._own[0])) and chunk.claims:
                    return chunk
            if not self._origins:
                return None
            if (number := self._claim(self._origins[0])) is None:
                self._origins.pop(0)
            else:
                self._own.append(number)

    def _find_unopened(self) -> None:
        """What earlier tries left unfinished, and what was claimed without our getting to know."""
        left = self._store.unfinished_chunks(self._run.batch_id, self._holder)
        self._own += [number for number in left if number not in self._opened and number not in self._own]
        self._unsure = False

    def _claim(self, origin: Origin) -> int | None:
        self._store.reap_expired_chunks()
        self._unsure = True
        with self._metrics.timed("claim"):
            number = self._store.claim_chunk(
                self._run,
                began_at=self._began_at,
                origin=origin,
                map_index=self._holder.map_index,
                try_number=self._holder.try_number,
                lease_s=self._lease_s,
            )
        self._unsure = False
        return number

    def _open(self, number: int) -> OpenChunk | None:
        """Open a chunk; None when it is over or someone else's by now."""
        since = time.monotonic()
        try:
            with self._metrics.timed("open"):
                claims = self._store.open_chunk(self._run.batch_id, number, self._holder, lease_s=self._lease_s)
        except LeaseLost as exc:
            log.info("chunk %d is not ours any more: %s", number, exc)
            self._own.remove(number)
            return None
        self._own.remove(number)
        self._opened.add(number)
        log.info("chunk opened number=%d records=%d", number, len(claims))
        return OpenChunk(number=number, claims=self._learn(claims), since=since)
