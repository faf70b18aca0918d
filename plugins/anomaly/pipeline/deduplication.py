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

from anomaly.errors import AnomalyError, DatabaseUnavailable, Retryable
from anomaly.models.answers import Answer, AnswerLookup, Ask, FoundAnswer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from anomaly.models.answers import EarlierAnswer
    from anomaly.models.records import Claim, Image
    from anomaly.pipeline.parts import Parts
    from anomaly.pipeline.stages import Stage, Timings

log = logging.getLogger(__name__)

GROUP = 32
"""Images in one statement, so that each one's share of the round trip is small."""
GROUP_WAIT_S = 0.05
"""How long an image waits for its group to fill while the detector runs out of work."""
RETRY_S = 0.5
"""Seconds after which a record looks again for the answer that another task asks for."""


@dataclass(eq=False, slots=True)
class _Shared:
    """An image that a record of this task is finding an answer to, while others with the same image wait."""

    answer: asyncio.Future[Answer | None]
    followers: int = 0


class Deduplication:
    """Answers to images, each paid for once.

    Args:
        patiently: runs a call on a stage again while the database or the bucket is away.
        finding: one thread for statements.
        reading: threads that read from the archive.
        check: raises LeaseLost if a record is held by someone else.
        running_low: whether the detector may run out of records before a request is answered.
        fetching: whether images are being fetched, so that more may follow soon.
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
        fetching: Callable[[], bool],
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
        if known := await self._known_answer(claim, image, timings):
            return known
        while shared := self._shared.get(image.sha256):
            shared.followers += 1
            answer = await asyncio.shield(shared.answer)
            self._check(claim)
            if answer is not None:
                return replace(answer, reused=True, latency_ms=0.0)
        shared = self._shared[image.sha256] = _Shared(asyncio.get_running_loop().create_future())
        answer = None
        try:
            answer = await self._find_or_acquire_ask(claim, image, ask, timings)
        finally:
            del self._shared[image.sha256]
            if answer is not None or shared.followers:
                self._owned.pop(claim.record_id, None)
            shared.answer.set_result(answer)
        return answer

    async def end(self, claim: Claim, *, stays_claimed: bool) -> None:
        """Forget an ended record. One that stays claimed for the next try lets another task ask about its image meanwhile."""
        if (image_sha256 := self._owned.pop(claim.record_id, None)) is None or not stays_claimed:
            return
        try:
            drop = partial(self._parts.store.release_ask, self._parts.run, claim, config=self._config, image_sha256=image_sha256)
            await self._finding.run(drop)
        except AnomalyError as exc:
            log.warning("other tasks wait for record id=%d until this try ends: %s", claim.record_id, exc)

    async def _known_answer(self, claim: Claim, image: Image, timings: Timings) -> Answer | None:
        """Return the answer that was found when the chunk was opened, or that an earlier holder of the record archived."""
        if claim.earlier and image.sha256 == claim.image_sha256 and (answer := await self._read(claim, claim.earlier, timings)):
            return answer
        return await self._find(claim, image, timings) if claim.held_before else None

    async def _find_or_acquire_ask(self, claim: Claim, image: Image, ask: Callable[[], Awaitable[Answer]], timings: Timings) -> Answer:
        newer_than: datetime | None = None
        while True:
            found = await self._look_up(AnswerLookup(claim=claim, image_sha256=image.sha256, newer_than=newer_than))
            self._check(claim)
            match found:
                case FoundAnswer():
                    if answer := await self._read(claim, found.earlier, timings):
                        return answer
                    newer_than = found.at  # it is gone from the bucket: only a newer answer will do
                case Ask.ELSEWHERE:
                    await self._wait_for_others()
                    self._check(claim)
                case _:
                    self._owned[claim.record_id] = image.sha256
                    # Whoever had the turn before may have archived an answer and died before it could commit.
                    if found is Ask.TAKEN_OVER and (answer := await self._find(claim, image, timings)):
                        return answer
                    return await ask()

    async def _wait_for_others(self) -> None:
        """Wait until the next look at images that other tasks ask about; all that wait look together."""
        if self._next_look is None or self._next_look.done():
            loop = asyncio.get_running_loop()
            self._next_look = loop.create_future()
            loop.call_later(RETRY_S, _set, self._next_look)
        await asyncio.shield(self._next_look)

    # ── look-ups, a group at a time

    async def _look_up(self, wanted: AnswerLookup) -> FoundAnswer | Ask:
        found: asyncio.Future[FoundAnswer | Ask] = asyncio.get_running_loop().create_future()
        self._group.append((wanted, found))
        self._arrived.set()
        if len(self._group) >= GROUP or (self._running_low() and not self._fetching()):
            self._full.set()
        return await found

    async def look_up_groups(self) -> None:
        """Look groups of images up, one statement at a time, until cancelled.

        A group is sent when it is full, or when the detector runs out of work and the group has waited for a moment.
        """
        while True:
            await self._arrived.wait()
            if len(self._group) < GROUP:
                await self._filled()
            await self._may_start.wait()
            group, self._group = self._group[:GROUP], self._group[GROUP:]
            group = [(wanted, found) for wanted, found in group if not found.done()]
            if len(self._group) < GROUP:
                self._full.clear()
            if not self._group:
                self._arrived.clear()
            if group:
                answers = await self._patiently(self._finding, self._find_group, [wanted for wanted, _ in group])
                for wanted, found in group:
                    if not found.done():
                        found.set_result(answers[wanted.image_sha256])

    async def _filled(self) -> None:
        while not self._full.is_set():
            try:
                async with asyncio.timeout(GROUP_WAIT_S):
                    await self._full.wait()
            except TimeoutError:
                if self._running_low():
                    return

    def _find_group(self, wanted: list[AnswerLookup]) -> dict[str, FoundAnswer | Ask]:
        with self._parts.metrics.timed("look_up"):
            return self._parts.store.find_or_acquire_ask(self._parts.run, self._parts.holder, config=self._config, wanted=wanted)

    # ── reading from the archive

    async def _read(self, claim: Claim, earlier: EarlierAnswer, timings: Timings) -> Answer | None:
        def read() -> Answer | None:
            return self._parsed(claim, self._parts.archive.read_answer(earlier.answer_key), earlier)

        answer: Answer | None = await self._patiently(self._reading, read, timings=timings, operation="look_up")
        return answer

    async def _find(self, claim: Claim, image: Image, timings: Timings) -> Answer | None:
        def find() -> Answer | None:
            return self._parsed(claim, self._parts.archive.find_answer(self._config, image.sha256, batch=self._parts.answers_of), None)

        answer: Answer | None = await self._patiently(self._reading, find, timings=timings, operation="look_up")
        return answer

    def _parsed(self, claim: Claim, raw: bytes | None, earlier: EarlierAnswer | None) -> Answer | None:
        if raw is None:
            return None
        try:
            return Answer(raw=raw, verdict=self._parts.detector.read(raw), latency_ms=0.0, reused=True, earlier=earlier)
        except Retryable as exc:
            log.warning("archived answer of record id=%d cannot be read and is asked for again: %s", claim.record_id, exc)
            return None


def with_earlier_answers(parts: Parts, claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """Return the claims of a chunk with the earlier answers to those images that are known, looked up by one statement. Blocks."""
    known = {claim.image_sha256 for claim in claims if claim.image_sha256}
    if not known:
        return tuple(claims)
    try:
        found = parts.store.find_answers(parts.run, config=parts.detector.config, image_sha256s=sorted(known))
    except DatabaseUnavailable as exc:  # the chunk is open and is worked: each image is looked up again once it is fetched
        log.warning("earlier answers of a chunk not looked up: %s", exc)
        return tuple(claims)
    return tuple(replace(claim, earlier=found.get(claim.image_sha256 or "")) for claim in claims)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
