"""Opens a task's chunks: its own first, then further ones of the same window until nothing is due."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from anomaly.errors import DatabaseUnavailable, LeaseLost
from anomaly.metrics import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anomaly.metrics import Metrics
    from anomaly.models.records import Claim
    from anomaly.models.runs import Chunk, Holder, Origin, Run
    from anomaly.pipeline.parts import ChunkStore, Parts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenChunk:
    """A chunk that this task holds."""

    number: int
    claims: tuple[Claim, ...]
    since: float
    """Monotonic time before the lease was asked for."""


def origins_of(run: Run) -> list[Origin]:
    """Return the statuses that a run claims from, in this order."""
    return ["pending", "done"] if run.select == "all" else ["pending"]


class ChunkSource:
    """Opens one chunk after another. Its methods block.

    Args:
        add_answers: adds earlier answers to the claims whose images are known.
    """

    def __init__(
        self,
        *,
        run: Run,
        holder: Holder,
        first: Chunk,
        store: ChunkStore,
        lease_s: float,
        add_answers: Callable[[Sequence[Claim]], tuple[Claim, ...]] = tuple,
        metrics: Metrics = SILENT,
    ) -> None:
        self._run = run
        self._holder = holder
        self._began_at = first.began_at
        self._store = store
        self._lease_s = lease_s
        self._add_answers = add_answers
        self._metrics = metrics
        self._own = [first.number]
        self._opened: set[int] = set()
        self._unsure = holder.try_number > 1
        """True if the database may hold a chunk of this task whose number is not known here."""
        self._origins = origins_of(run)

    def next(self) -> OpenChunk | None:
        """Return the next chunk with records in it, or None if nothing is due. May be called again after an error.

        Raises:
            DatabaseUnavailable: nothing that this task holds is forgotten; a claim whose answer was lost is found again.
        """
        while True:
            if self._unsure:
                left = self._store.unfinished_chunks(self._run.batch_id, self._holder)
                self._own += [number for number in left if number not in self._opened and number not in self._own]
                self._unsure = False
            while self._own:
                if (chunk := self._open(self._own[0])) and chunk.claims:
                    return chunk
            if not self._origins:
                return None
            if (number := self._claim(self._origins[0])) is None:
                self._origins.pop(0)
            else:
                self._own.append(number)

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
        """Open a chunk; return None if it has ended or is held by someone else."""
        since = time.monotonic()
        try:
            with self._metrics.timed("open"):
                claims = self._store.open_chunk(self._run.batch_id, number, self._holder, lease_s=self._lease_s)
        except LeaseLost as exc:
            log.info("chunk %d is held by someone else: %s", number, exc)
            self._own.remove(number)
            return None
        self._own.remove(number)
        self._opened.add(number)
        log.info("chunk opened number=%d records=%d", number, len(claims))
        return OpenChunk(number=number, claims=self._add_answers(claims), since=since)


def chunk_source(parts: Parts) -> ChunkSource:
    """Return the source of a task's chunks, with the earlier answers to their images."""
    return ChunkSource(
        run=parts.run,
        holder=parts.holder,
        first=parts.first,
        store=parts.store,
        lease_s=parts.settings.lease_s,
        add_answers=partial(_with_earlier_answers, parts),
        metrics=parts.metrics,
    )


def _with_earlier_answers(parts: Parts, claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """Return the claims of a chunk with the earlier answers to those images that are known, looked up by one statement."""
    known = {claim.image_sha256 for claim in claims if claim.image_sha256}
    try:
        found = parts.store.find_answers(parts.run, config=parts.detector.config, image_sha256s=sorted(known)) if known else {}
    except DatabaseUnavailable as exc:  # the chunk is open and is worked: each image is looked up again once it is fetched
        log.warning("earlier answers of a chunk not looked up: %s", exc)
        found = {}
    return tuple(replace(claim, earlier=found.get(claim.image_sha256 or "")) for claim in claims) if found else tuple(claims)
