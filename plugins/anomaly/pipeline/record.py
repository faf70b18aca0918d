"""What is done to one record, step by step: each step blocks, runs on a stage's thread, and leaves its product on the work."""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, TypeVar

from anomaly.errors import AnomalyError, DatabaseUnavailable, Retryable
from anomaly.models.answers import Answer, AnswerLookup, ArchiveKeys, Ask, FoundAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from anomaly.models.answers import EarlierAnswer
    from anomaly.models.records import Claim, Image
    from anomaly.models.runs import Holder, Run
    from anomaly.pipeline.parts import Archive, Detector, ImageSource, Results

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Work:
    """One claimed record on its way."""

    claim: Claim
    image: Image | None = None
    answer: Answer | None = None
    earlier: EarlierAnswer | None = None
    """An answer to the same image that was found in the database."""
    earlier_at: datetime | None = None
    """When it was written down."""
    newer_than: datetime | None = None
    """The same of one that was not in the bucket any more."""
    turn: Ask | None = None
    """Whose turn it is to ask; None while nobody has said so, and where there is an answer."""
    image_key: str | None = None
    answer_key: str | None = None
    heatmap_key: str | None = None
    objects: int = 0
    """Written to the archive: the image, and the answer with its heat map."""
    failures: int = 0
    """Of the detector, in a row."""
    asked_at: float = 0.0
    """Monotonic time at which its last request to the detector began."""
    failing_since: float | None = None
    """Monotonic time of the detector's first failure."""
    blocked_since: float | None = None
    """Monotonic time since which the archive or the database has failed it."""
    throttled_since: float | None = None
    """Monotonic time of the detector's first word to hold back."""
    timings: dict[str, float] = field(default_factory=dict)
    """Milliseconds by operation."""
    committed: bool = False
    ended: bool = False

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Add what this takes to the operation's milliseconds."""
        began = time.monotonic()
        try:
            yield
        finally:
            took_ms = (time.monotonic() - began) * 1000
            self.timings[operation] = round(self.timings.get(operation, 0.0) + took_ms, 3)


class Steps:
    """The steps, bound to the parts that a task has opened.

    Args:
        commits: so many at once, at most.
        archivers: threads that write to the archive.
    """

    def __init__(
        self,
        *,
        run: Run,
        holder: Holder,
        images: ImageSource,
        detector: Detector,
        archive: Archive,
        store: Results,
        commits: int,
        archivers: int,
    ) -> None:
        self._run = run
        self._holder = holder
        self._images = images
        self._detector = detector
        self._archive = archive
        self._store = store
        self._commits = BoundedSemaphore(commits)
        self._by_archivers = BoundedSemaphore(archivers // 2)  # a database that hangs leaves enough of them to write answers down
        self._answers_of = str(run.batch_id) if run.fresh else None

    def learn(self, claims: Sequence[Claim]) -> tuple[Claim, ...]:
        """The claims of a chunk, with the earlier answers to those images that are known, by one statement."""
        known = {claim.image_sha256 for claim in claims if claim.image_sha256}
        try:
            found = self._store.find_answers(self._run, config=self._detector.config, image_sha256s=sorted(known)) if known else {}
        except DatabaseUnavailable as exc:  # the chunk is open and goes on: each image is looked up again once it is here
            log.warning("earlier answers of a chunk not looked up: %s", exc)
            found = {}
        return tuple(replace(claim, earlier=found.get(claim.image_sha256 or "")) for claim in claims) if found else tuple(claims)

    def fetch(self, work: Work) -> None:
        """Download the image, and take the answer that is known to be there, or may be."""
        with work.timed("fetch"):
            work.image = self._images.fetch(work.claim.image_url)
        if work.image.sha256 == work.claim.image_sha256:
            work.earlier = work.claim.earlier
        self.reuse(work)
        if work.answer is None and work.claim.held_before:
            self._look_for_answer(work, work.image)

    def look_up(self, group: list[Work]) -> None:
        """Find out which of these images the detector has answered for, and whose turn it is to ask about the others, by one statement."""
        wanted = [AnswerLookup(claim=work.claim, image_sha256=_there(work.image).sha256, newer_than=work.newer_than) for work in group]
        found = self._store.find_or_acquire_ask(self._run, self._holder, config=self._detector.config, wanted=wanted)
        for work in group:
            match found[_there(work.image).sha256]:
                case FoundAnswer(earlier=earlier, at=at):
                    work.earlier, work.earlier_at, work.turn = earlier, at, None
                case turn:
                    work.turn = turn

    def release_ask(self, claim: Claim, image_sha256: str) -> None:
        """Let another record ask about the image, whichever task works it."""
        self._store.release_ask(self._run, claim, config=self._detector.config, image_sha256=image_sha256)

    def reuse(self, work: Work) -> None:
        """Take the earlier answer that was found, unless it is gone from the bucket or cannot be read any more.

        Where the turn was taken over, the one who had it may have archived an answer and died before it could commit.
        """
        if work.turn is Ask.TAKEN_OVER:
            self._look_for_answer(work, _there(work.image))
        if work.earlier is None:
            return
        with work.timed("look_up"):
            self._take(work, self._archive.read_answer(work.earlier.answer_key))
        if work.answer is None:
            work.earlier, work.newer_than = None, work.earlier_at

    def _look_for_answer(self, work: Work, image: Image) -> None:
        """Take the answer that someone may have written down before it could be committed."""
        with work.timed("look_up"):
            self._take(work, self._archive.find_answer(self._detector.config, image.sha256, batch=self._answers_of))

    def _take(self, work: Work, raw: bytes | None) -> None:
        if raw is None:
            return
        try:
            verdict = self._detector.read(raw)
        except Retryable as exc:
            log.warning("archived answer of record id=%d cannot be read and is asked for again: %s", work.claim.record_id, exc)
            return
        work.answer = Answer(raw=raw, verdict=verdict, latency_ms=0.0, reused=True)

    def detect(self, work: Work) -> None:
        """Ask the detector once."""
        image = _there(work.image)
        with work.timed("detect"):
            work.answer = self._detector.ask(image, idempotency_key=self._idempotency_key(image))

    def _idempotency_key(self, image: Image) -> str:
        """The same for each request that would give the same archived answer."""
        parts = f"{self._detector.config}/{image.sha256}/{self._answers_of or ''}"
        return hashlib.sha256(parts.encode()).hexdigest()

    def archive_image(self, work: Work) -> None:
        with work.timed("archive"):
            work.image_key = self._archive.put_image(_there(work.image))

    def archive_answer(self, work: Work) -> None:
        """Write the answer down, then its heat map, without which the record is done all the same."""
        image, answer = _there(work.image), _there(work.answer)
        if work.earlier is not None:
            work.answer_key, work.heatmap_key = work.earlier.answer_key, work.earlier.heatmap_key
            return
        of = self._detector.config, image.sha256
        with work.timed("archive"):
            if work.answer_key is None:
                work.answer_key = self._archive.put_answer(*of, answer.raw, batch=self._answers_of)
            if answer.verdict.heatmap is not None and work.heatmap_key is None:
                try:
                    work.heatmap_key = self._archive.put_heatmap(*of, answer.verdict.heatmap, batch=self._answers_of)
                except AnomalyError as exc:
                    log.warning("heat map of record id=%d not archived: %s", work.claim.record_id, exc)

    def end(self, work: Work) -> None:
        """Write the answer down; commit it as well where the image is there and a commit is free, which saves the way to another thread."""
        self.archive_answer(work)
        if work.image_key is None:
            return
        with _if_free(self._by_archivers) as ours, _if_free(self._commits) if ours else nullcontext(False) as free:
            if free:
                self._commit(work)

    def commit(self, work: Work) -> None:
        with self._commits:
            self._commit(work)

    def _commit(self, work: Work) -> None:
        image, answer = _there(work.image), _there(work.answer)
        archived = ArchiveKeys(image_key=_there(work.image_key), answer_key=_there(work.answer_key), heatmap_key=work.heatmap_key)
        began = time.monotonic()
        self._store.commit(
            work.claim,
            answer,
            archived,
            config=self._detector.config,
            image_sha256=image.sha256,
            run=self._run,
            holder=self._holder,
            timings=work.timings,
        )
        work.timings["commit"] = round((time.monotonic() - began) * 1000, 3)
        work.committed = True


@contextmanager
def _if_free(places: BoundedSemaphore) -> Iterator[bool]:
    """Whether there was a place, which is given back afterwards."""
    got = places.acquire(blocking=False)
    try:
        yield got
    finally:
        if got:
            places.release()


def _there(product: T | None) -> T:
    """What an earlier step has left; a step never runs before the ones it needs."""
    if product is None:
        raise AssertionError("a step ran before the one that it needs")
    return product
