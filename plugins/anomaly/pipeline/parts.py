"""The parts of a task: its run, its settings, and the clients that it has opened, as far as the pipeline uses them."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from anomaly.backoff import delay_s
from anomaly.errors import AnomalyError, DetectorAnswerInvalid
from anomaly.images.validation import plain_image
from anomaly.metrics import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from random import Random

    from anomaly.metrics import Metrics, Tally
    from anomaly.models.answers import Answer, AnswerLookup, ArchiveKeys, Ask, EarlierAnswer, FoundAnswer, Verdict
    from anomaly.models.quota import Demand, Quota, Share
    from anomaly.models.records import Claim, Image
    from anomaly.models.runs import BatchId, Chunk, Holder, Origin, Run
    from anomaly.pipeline.lease import LeaseRenewer
    from anomaly.settings import Settings

log = logging.getLogger(__name__)


class ImageSource(Protocol):
    def fetch(self, url: str) -> Image: ...


class Detector(Protocol):
    @property
    def config(self) -> str:
        """Digest of everything that shapes an answer."""
        ...

    @property
    def reading(self) -> str:
        """Digest of `config` and of the mapping, which reads a verdict from an answer."""
        ...

    def ask(self, image: Image, *, idempotency_key: str) -> Answer:
        """Send one request."""
        ...

    def read(self, raw: bytes) -> Verdict:
        """Read an archived answer."""
        ...


class Archive(Protocol):
    """Each put returns the object's key."""

    def put_image(self, image: Image) -> str: ...
    def put_answer(self, config: str, image_sha256: str, raw: bytes, *, batch: str | None) -> str: ...
    def find_answer(self, config: str, image_sha256: str, *, batch: str | None) -> bytes | None: ...
    def read(self, key: str) -> bytes | None: ...
    def put_heatmap(self, config: str, image_sha256: str, png: bytes, *, batch: str | None) -> str: ...
    def put_unreadable(self, config: str, image_sha256: str, raw: bytes, *, reason: str) -> str: ...


class ChunkStore(Protocol):
    """Statements on chunks. They change nothing where someone else holds the chunk."""

    def reap_expired_chunks(self) -> int: ...
    def unfinished_chunks(self, batch_id: BatchId, holder: Holder) -> list[int]: ...
    def open_chunk(self, batch_id: BatchId, number: int, holder: Holder, *, lease_s: float) -> tuple[Claim, ...]: ...
    def claim_chunk(
        self, run: Run, *, began_at: datetime, origin: Origin, map_index: int | None, try_number: int, lease_s: float
    ) -> int | None: ...
    def mark_alone(self, claim: Claim, holder: Holder, *, alone: bool) -> None: ...
    def end_chunk(self, run: Run, number: int, holder: Holder, *, tally: dict[str, Any]) -> bool: ...
    def park_chunks(self, run: Run, holder: Holder, *, lease_s: float) -> None: ...
    def release_chunks(self, run: Run, holder: Holder) -> None: ...
    def pool_use(self) -> tuple[int, int]: ...


class Store(ChunkStore, Protocol):
    """The records database. Statements that end a record return its status now, or raise LeaseLost."""

    def is_detector_proven(self, config: str) -> bool: ...
    def add_proven_detector(self, config: str) -> None: ...
    def find_answers(self, run: Run, *, config: str, image_sha256s: Sequence[str]) -> dict[str, EarlierAnswer]: ...
    def find_or_acquire_ask(
        self, run: Run, holder: Holder, *, config: str, wanted: Sequence[AnswerLookup]
    ) -> dict[str, FoundAnswer | Ask]: ...
    def release_ask(self, run: Run, claim: Claim, *, config: str, image_sha256: str) -> None: ...
    def defer(self, claim: Claim, *, error: AnomalyError, timings: dict[str, float]) -> str: ...
    def quarantine(self, claim: Claim, *, error: AnomalyError, timings: dict[str, float]) -> str: ...
    def give_back(self, claim: Claim, *, error: AnomalyError, not_before_s: float) -> str: ...

    def commit(
        self,
        claim: Claim,
        answer: Answer,
        archived: ArchiveKeys,
        *,
        config: str,
        image: Image,
        run: Run,
        holder: Holder,
        timings: dict[str, float],
    ) -> None: ...


class Fleet(Protocol):
    """All tasks that ask the same detector."""

    @property
    def quota(self) -> Quota: ...

    @property
    def expires_s(self) -> float:
        """Seconds for which a share is valid."""
        ...

    def share(self, demand: Demand) -> Share: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one try of one mapped task."""

    run: Run
    holder: Holder
    first: Chunk
    """The chunk that the task was mapped over."""
    images: ImageSource
    detector: Detector
    archive: Archive
    store: Store
    fleet: Fleet
    settings: Settings
    rng: Random
    lease_renewer: Callable[[Callable[[int], None]], LeaseRenewer]
    """Makes what renews the leases, given a function to call with each lost chunk."""
    on_worked: Callable[[Tally], None]
    """Called with the tally of each chunk whose records have all ended."""
    metrics: Metrics = SILENT
    blamed: set[int] = field(default_factory=set)
    """Ids of records that failed while the detector answered for others. Grows, and is kept for the task's next try."""
    unreadable: set[str] = field(default_factory=set)
    """SHA-256 of images whose archived answer the mapping cannot read. The answer that replaces it is kept under the reading's digest."""
    detector_proven: bool = False
    """True if this configuration of the detector, with this mapping, has given a readable answer before."""
    clock: Callable[[], float] = time.monotonic

    @property
    def in_memory_max(self) -> int:
        """Records that may hold an image at once: as many as the stages can use, and more than wait for a decision about refusals."""
        settings = self.settings
        return max(2 * settings.detector_slots + settings.fetch_workers + settings.archive_workers, 2 * settings.refusals_max + 2)

    def retry_delay_s(self, *, hint_s: float = 0.0) -> float:
        """Return the seconds until the task's next try, at least *hint_s*."""
        base_s, cap_s = self.settings.task_backoff_s, self.settings.task_backoff_cap_s
        return delay_s(self.holder.try_number, base_s=base_s, cap_s=cap_s, rng=self.rng, hint_s=hint_s)

    def answers_of(self, claim: Claim | None) -> str | None:
        """Return the request to score again, or the batch of a fresh run, whose answers alone may be reused; None for all answers."""
        if claim and claim.ask_anew:
            return str(claim.ask_anew)
        return str(self.run.batch_id) if self.run.fresh else None

    def ask(self, image: Image, claim: Claim | None = None) -> Answer:
        """Send one request to the detector. Its idempotency key is the same whenever the archived answer would be the same. Blocks."""
        key = hashlib.sha256(f"{self._digest_for(image)}/{image.sha256}/{self.answers_of(claim) or ''}".encode()).hexdigest()
        return self.detector.ask(image, idempotency_key=key)

    def ask_control(self) -> Answer:
        """Ask about a plain grey image, to find out if the detector answers at all. Blocks."""
        return self.ask(plain_image())

    def archive_answer(self, claim: Claim, image: Image, answer: Answer) -> tuple[str, str | None]:
        """Archive an answer, then its heat map, without which the record is done all the same; return their keys. Blocks."""
        batch = self.answers_of(claim)
        if answer.earlier:
            answer_key = answer.earlier.answer_key
        else:
            answer_key = self.archive.put_answer(self._digest_for(image), image.sha256, answer.raw, batch=batch)
        if answer.verdict.heatmap is None:
            return answer_key, None
        try:
            return answer_key, self.archive.put_heatmap(self.detector.reading, image.sha256, answer.verdict.heatmap, batch=batch)
        except AnomalyError as exc:
            log.warning("heat map of record id=%d not archived: %s", claim.record_id, exc)
            return answer_key, None

    def archived_keys(self, answer: Answer) -> tuple[str, str | None] | None:
        """Return the keys of an earlier answer and its heat map; None if one of them has yet to be archived.

        Heat maps are kept under the digest of the reading, since another mapping may find another one in the same answer.
        """
        earlier = answer.earlier
        if earlier is None or (answer.verdict.heatmap and f"/{self.detector.reading}/" not in (earlier.heatmap_key or "")):
            return None
        return earlier.answer_key, earlier.heatmap_key if answer.verdict.heatmap else None

    def _digest_for(self, image: Image) -> str:
        return self.detector.reading if image.sha256 in self.unreadable else self.detector.config

    def keep_unreadable(self, error: DetectorAnswerInvalid) -> DetectorAnswerInvalid:
        """Archive an unreadable answer, and return its error with the key. Without the bucket, the error is unchanged. Blocks."""
        if not error.image_sha256:
            return error
        try:
            key = self.archive.put_unreadable(self.detector.config, error.image_sha256, error.raw, reason=str(error))
        except AnomalyError as exc:
            log.warning("unreadable answer not archived: %s", exc)
            return error
        return DetectorAnswerInvalid(f"{error.message}; it is kept as {key}", begins=error.begins)
