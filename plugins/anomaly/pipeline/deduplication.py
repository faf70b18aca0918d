"""Finds an earlier answer to an image, and lets one record at a time ask about it, whichever task works the others.

Within a task, records with the same image share one request. Across tasks, the database says which record may ask, by the same statement
that looks for earlier answers, for a group of images at a time. A record whose image another task asks about looks again after a while.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from anomaly.errors import AnomalyError, Retryable
from anomaly.models.answers import Answer, AnswerLookup, Ask, FoundAnswer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from anomaly.models.answers import EarlierAnswer
    from anomaly.models.records import Claim, Image
    from anomaly.pipeline.parts import Parts
    from anomaly.pipeline.stages import Stage, Timings

log = logging.getLogger(__name__)

GROUP = 32
"""Images in one statement, so that each one's share of the round trip is small."""
GROUP_WAIT_S = 0.05
"""Seconds for which an image waits for its group to fill while the detector runs out of work."""
RETRY_S = 0.5
"""Seconds after which a record looks again for the answer that another task asks for."""


@dataclass(eq=False, slots=True)
class _Shared:
    """An image for which a record of this task finds an answer, while others with the same image wait."""

    answer: asyncio.Future[Answer | None]
    followers: int = 0


class Deduplication:
    """Answers to images, each paid for once.

    Args:
        patiently: runs a call on a stage, and again while the database or the bucket is away.
        finding: one thread for statements.
        reading: threads that read from the archive.
        check: raises LeaseLost if a record is held by someone else.
        running_low: whether the detector may run out of records before a request is answered.
        fetching: while its threads fetch images, more records may follow soon.
        may_start: cleared while nothing new may be asked.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        patiently: Callable[..., Awaitable[Any]],
        finding: Stage,
        reading: Stage,
        check: Callable[[Claim], None],
        running_low: Callable[[], bool],
        fetching: Stage,
        may_start: asyncio.Event,
    ) -> None:
        self._parts = parts
        self._config = parts.detector.config
        self._patiently = patiently
        self._finding = finding
        self._reading = reading
        self._check = check
        self._running_low = running_low
        self._fetching = fetching
        self._may_start = may_start
        self._shared: dict[str, _Shared] = {}
        self._owned: dict[int, str] = {}
        """The images about which records of this task may ask, by record id."""
        self._group: list[tuple[AnswerLookup, asyncio.Future[FoundAnswer | Ask]]] = []
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._next_look: asyncio.Future[None] | None = None

    async def answer(self, claim: Claim, image: Image, ask: Callable[[], Awaitable[Answer]], timings: Timings) -> Answer:
        """Return an earlier answer to the image, the one that another record of this task gets, or that of *ask*."""
        archive, answer = self._parts.archive, None
        key = f"{image.sha256}/{claim.ask_anew or ''}"
        if claim.earlier and image.sha256 == claim.image_sha256 and not claim.ask_anew:
            answer = await self._read(claim, image, partial(archive.read, claim.earlier.answer_key), claim.earlier, timings)
        if answer is None and claim.held_before:
            answer = await self._find(claim, image, timings)
        while answer is None and (shared := self._shared.get(key)):
            shared.followers += 1
            answer = await asyncio.shield(shared.answer)
            self._check(claim)
            answer = answer and replace(answer, reused=True, latency_ms=0.0)
        if answer is not None:
            return answer
        shared = self._shared[key] = _Shared(asyncio.get_running_loop().create_future())
        try:
            answer = await (ask() if claim.ask_anew else self._find_or_ask(claim, image, ask, timings))
        finally:
            del self._shared[key]
            if answer is not None or shared.followers:
                self._owned.pop(claim.record_id, None)
            shared.answer.set_result(answer)
        return answer

    async def _find_or_ask(self, claim: Claim, image: Image, ask: Callable[[], Awaitable[Answer]], timings: Timings) -> Answer:
        newer_than: datetime | None = None
        while True:
            found = await self._look_up(AnswerLookup(claim=claim, image_sha256=image.sha256, newer_than=newer_than))
            self._check(claim)
            if isinstance(found, FoundAnswer):
                read = partial(self._parts.archive.read, found.earlier.answer_key)
                if answer := await self._read(claim, image, read, found.earlier, timings):
                    return answer
                newer_than = found.at  # that answer is gone from the bucket, or the mapping cannot read it
            elif found is Ask.ELSEWHERE:
                await self._wait_for_others()
                self._check(claim)
            else:
                self._owned[claim.record_id] = image.sha256
                # The task that owned the ask before may have archived an answer and died before it could commit.
                if found is Ask.TAKEN_OVER and (answer := await self._find(claim, image, timings)):
                    return answer
                return await ask()

    async def end(self, claim: Claim, *, stays_claimed: bool) -> None:
        """Forget an ended record. One that stays claimed for the next try lets another task ask about its image meanwhile."""
        image_sha256 = self._owned.pop(claim.record_id, None)
        if image_sha256 is None or not stays_claimed:
            return
        release_ask = self._parts.store.release_ask
        try:
            await self._finding.run(partial(release_ask, self._parts.run, claim, config=self._config, image_sha256=image_sha256))
        except AnomalyError as exc:
            log.warning("other tasks wait for record id=%d until this try ends: %s", claim.record_id, exc)

    async def _wait_for_others(self) -> None:
        """Wait until the next look at images that other tasks ask about; all that wait look together."""
        if self._next_look is None or self._next_look.done():
            self._next_look = asyncio.ensure_future(asyncio.sleep(RETRY_S))
        await asyncio.shield(self._next_look)

    # ── look-ups, a group at a time

    async def _look_up(self, wanted: AnswerLookup) -> FoundAnswer | Ask:
        found: asyncio.Future[FoundAnswer | Ask] = asyncio.get_running_loop().create_future()
        self._group.append((wanted, found))
        self._arrived.set()
        if len(self._group) >= GROUP or (self._running_low() and not self._fetching.busy):
            self._full.set()
        return await found

    async def look_up_groups(self) -> None:
        """Look groups of images up, one statement at a time, until cancelled.

        A group is sent when it is full, or when the detector runs out of work and the group has waited for a moment.
        """
        while True:
            await self._arrived.wait()
            while not self._full.is_set():
                try:
                    await asyncio.wait_for(self._full.wait(), GROUP_WAIT_S)
                except TimeoutError:
                    if self._running_low():
                        break
            await self._may_start.wait()
            group = [(wanted, found) for wanted, found in self._group[:GROUP] if not found.done()]
            del self._group[:GROUP]
            if len(self._group) < GROUP:
                self._full.clear()
            if not self._group:
                self._arrived.clear()
            answers = await self._patiently(self._finding, self._find_group, [wanted for wanted, _ in group])
            for wanted, found in group:
                if not found.done():
                    found.set_result(answers[wanted.image_sha256])

    def _find_group(self, wanted: list[AnswerLookup]) -> dict[str, FoundAnswer | Ask]:
        parts = self._parts
        with parts.metrics.timed("look_up"):
            return parts.store.find_or_acquire_ask(parts.run, parts.holder, config=self._config, wanted=wanted) if wanted else {}

    # ── reading from the archive

    async def _find(self, claim: Claim, image: Image, timings: Timings) -> Answer | None:
        """Read the archived answer to the image, or the one that replaces it because the mapping cannot read it."""
        parts, find_answer = self._parts, partial(self._parts.archive.find_answer, batch=self._parts.answers_of(claim))
        answer = await self._read(claim, image, partial(find_answer, self._config, image.sha256), None, timings)
        if answer is None and image.sha256 in parts.unreadable:
            answer = await self._read(claim, image, partial(find_answer, parts.detector.reading, image.sha256), None, timings)
        return answer

    async def _read(
        self, claim: Claim, image: Image, read_raw: Callable[[], bytes | None], earlier: EarlierAnswer | None, timings: Timings
    ) -> Answer | None:
        def read() -> Answer | None:
            if (raw := read_raw()) is None:
                return None
            try:
                return Answer(raw=raw, verdict=self._parts.detector.read(raw), latency_ms=0.0, reused=True, earlier=earlier)
            except Retryable as exc:
                log.warning("archived answer of record id=%d cannot be read and is asked for again: %s", claim.record_id, exc)
                self._parts.unreadable.add(image.sha256)
                return None

        answer: Answer | None = await self._patiently(self._reading, read, timings=timings, operation="look_up")
        return answer
