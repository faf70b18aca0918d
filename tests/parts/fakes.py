"""A pipeline on the bench: fakes in memory with the protocols of its parts, so that a test says what each of them does."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

from anomaly import errors
from anomaly.models.answers import Answer, ArchiveKeys, Ask, FoundAnswer, Verdict
from anomaly.models.quota import Demand, Quota, Share
from anomaly.models.records import Claim, Image
from anomaly.models.runs import BatchId, Chunk, Holder, Run, Window
from anomaly.pipeline.drain import Pipeline
from anomaly.pipeline.lease import LeaseRenewer
from anomaly.pipeline.parts import Parts
from anomaly.settings import Settings

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from anomaly.metrics import Tally
    from anomaly.models.answers import AnswerLookup, EarlierAnswer

BATCH = BatchId(uuid.UUID(int=7))
RUN = Run(dag_id="d", run_id="r", window=Window())
SETTINGS = Settings(detector_slots=4, fetch_workers=2, archive_workers=2, commit_workers=2, detector_backoff_s=0.01, grace_s=2.0)
BOUND_S = 20
CONTROL = -1
"""The number of the control image."""
ANSWERED_AT = datetime(2026, 1, 1, tzinfo=UTC)


def claims(ids: Iterable[int], *, chunk: int = 0, **fields: Any) -> tuple[Claim, ...]:
    made = (Claim(record_id=n, image_url=f"http://images/{n}", token=2, batch_id=BATCH, chunk=chunk, claimed_from="pending") for n in ids)
    return tuple(replace(claim, **fields) for claim in made)


def once(error: BaseException) -> Callable[[], BaseException | None]:
    """Gives the error at its first call."""
    left = [error]
    return lambda: left.pop() if left else None


@dataclass
class FakeStore:
    """The records database in memory, with the methods that the pipeline, its feed and its keeper use."""

    chunks: list[tuple[Claim, ...]]
    """The first one comes by XCom, the others are claimed."""
    claimed: int = 1
    opened: list[int] = field(default_factory=list)
    ended: dict[int, dict[str, Any]] = field(default_factory=dict)
    outcome: dict[int, str] = field(default_factory=dict)
    commits: Counter[int] = field(default_factory=Counter)
    heatmaps: dict[int, str | None] = field(default_factory=dict)
    alone: list[tuple[int, bool]] = field(default_factory=list)
    earlier: dict[str, EarlierAnswer] = field(default_factory=dict)
    look_ups: list[list[str]] = field(default_factory=list)
    turn: Callable[[str, int], Ask] = lambda _image, _before: Ask.OWNED
    """Called with the image and how often nobody had answered for it before."""
    asks: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    proven: set[str] = field(default_factory=set)
    parked_s: float | None = None
    released: bool = False
    commit_error: Callable[[Claim], BaseException | None] = lambda _: None
    fails: Callable[[str, int], BaseException | None] = lambda _method, _number: None
    """Called with a method and the number of its chunk or record."""

    def reap_expired_chunks(self) -> int:
        return 0

    def unfinished_chunks(self, batch_id: BatchId, holder: Holder) -> list[int]:  # noqa: ARG002
        return [number for number in range(self.claimed) if number not in self.ended]

    def claim_chunk(self, run: Run, **_: Any) -> int | None:  # noqa: ARG002
        if self.claimed >= len(self.chunks):
            return None
        self.claimed += 1
        self._fail("claim_chunk", self.claimed - 1)
        return self.claimed - 1

    def open_chunk(self, batch_id: BatchId, number: int, holder: Holder, *, lease_s: float) -> tuple[Claim, ...]:  # noqa: ARG002
        self._fail("open_chunk", number)
        self.opened.append(number)
        return self.chunks[number]

    def is_detector_proven(self, config: str) -> bool:
        return config in self.proven

    def add_proven_detector(self, config: str) -> None:
        self.proven.add(config)

    def find_answers(self, run: Run, *, config: str, image_sha256s: Sequence[str]) -> dict[str, EarlierAnswer]:  # noqa: ARG002
        self.look_ups.append(list(image_sha256s))
        self._fail("find_answers", len(self.look_ups))
        return {sha256: self.earlier[sha256] for sha256 in image_sha256s if sha256 in self.earlier}

    def find_or_acquire_ask(self, run: Run, holder: Holder, *, config: str, wanted: Sequence[AnswerLookup]) -> dict[str, FoundAnswer | Ask]:  # noqa: ARG002
        found = self.find_answers(run, config=config, image_sha256s=[each.image_sha256 for each in wanted])
        gone = {each.image_sha256 for each in wanted if each.newer_than}
        answered = {sha256: FoundAnswer(earlier=earlier, at=ANSWERED_AT) for sha256, earlier in found.items() if sha256 not in gone}
        return {each.image_sha256: answered.get(each.image_sha256) or self._turn(each.image_sha256) for each in wanted}

    def _turn(self, image_sha256: str) -> Ask:
        before = self.asks.count(image_sha256)
        self.asks.append(image_sha256)
        return self.turn(image_sha256, before)

    def release_ask(self, run: Run, claim: Claim, *, config: str, image_sha256: str) -> None:  # noqa: ARG002
        self._fail("release_ask", claim.record_id)
        self.dropped.append(image_sha256)

    def commit(self, claim: Claim, answer: Answer, archived: ArchiveKeys, **_: Any) -> None:
        self.commits[claim.record_id] += 1
        self.heatmaps[claim.record_id] = archived.heatmap_key
        if error := self.commit_error(claim):
            raise error
        assert archived.image_key
        assert archived.answer_key
        self.outcome[claim.record_id] = "reused" if answer.reused else "committed"

    def defer(self, claim: Claim, *, error: errors.AnomalyError, timings: dict[str, float]) -> str:  # noqa: ARG002
        self.outcome[claim.record_id] = f"deferred {error.code}"
        return "pending"

    def quarantine(self, claim: Claim, *, error: errors.AnomalyError, timings: dict[str, float]) -> str:  # noqa: ARG002
        self._fail("quarantine", claim.record_id)
        self.outcome[claim.record_id] = f"quarantined {error.code}"
        return "quarantined"

    def give_back(self, claim: Claim, *, error: errors.AnomalyError, not_before_s: float) -> str:  # noqa: ARG002
        self._fail("give_back", claim.record_id)
        self.outcome[claim.record_id] = f"given back for {not_before_s:.0f} s"
        return "pending"

    def mark_alone(self, claim: Claim, holder: Holder, *, alone: bool) -> None:  # noqa: ARG002
        self._fail("mark_alone", claim.record_id)
        self.alone.append((claim.record_id, alone))

    def end_chunk(self, run: Run, number: int, holder: Holder, *, tally: dict[str, Any]) -> bool:  # noqa: ARG002
        self._fail("end_chunk", number)
        self.ended[number] = tally
        return True

    def park_chunks(self, run: Run, holder: Holder, *, lease_s: float) -> None:  # noqa: ARG002
        self._fail("park_chunks", 0)
        self.parked_s = lease_s

    def release_chunks(self, run: Run, holder: Holder) -> None:  # noqa: ARG002
        self._fail("release_chunks", 0)
        self.released = True

    def pool_use(self) -> tuple[int, int]:
        return 1, 2

    def _fail(self, method: str, number: int) -> None:
        if error := self.fails(method, number):
            raise error


@dataclass
class FakeImages:
    """Images whose SHA-256 is the last part of their address."""

    error: Callable[[int], BaseException | None] = lambda _: None

    def fetch(self, url: str) -> Image:
        name = url.rsplit("/", 1)[1]
        if error := self.error(int(name)):
            raise error
        return Image(content=b"x", sha256=name, media_type="image/png", width_px=1, height_px=1)


@dataclass
class FakeDetector:
    """Answers after what a script says: called with the image's number and how often it was asked before."""

    script: Callable[[int, int], BaseException | None] = lambda _n, _before: None
    asked: Counter[int] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    meet: threading.Barrier | None = None
    config = "c0"
    reading = "m0"

    def ask(self, image: Image, *, idempotency_key: str) -> Answer:
        assert len(idempotency_key) == 64
        number = int(image.sha256) if image.sha256.isdecimal() else CONTROL
        before = self.asked[number]
        self.asked[number] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self.meet:
            self.meet.wait(BOUND_S)
        try:
            if error := self.script(number, before):
                raise error
        finally:
            self.in_flight -= 1
        return Answer(raw=b"{}", verdict=self.read(b"{}"), latency_ms=1.0)

    def read(self, raw: bytes) -> Verdict:
        if raw == b"garbled":
            raise errors.DetectorAnswerInvalid("garbled")
        return Verdict(score=0.5, is_anomaly=False, detector="fake@1", heatmap=b"png")


@dataclass
class FakeArchive:
    answers: dict[str, bytes] = field(default_factory=dict)
    answer_errors: list[BaseException] = field(default_factory=list)
    heatmap_error: BaseException | None = None
    unreadable: dict[str, bytes] = field(default_factory=dict)
    unreadable_error: BaseException | None = None
    writes_of_answers: int = 0

    def put_image(self, image: Image) -> str:
        return f"images/{image.sha256}"

    def put_answer(self, config: str, image_sha256: str, raw: bytes, *, batch: str | None) -> str:
        self.writes_of_answers += 1
        if self.answer_errors:
            raise self.answer_errors.pop()
        key = f"answers/{config}/{batch}/{image_sha256}"
        self.answers[key] = raw
        return key

    def find_answer(self, config: str, image_sha256: str, *, batch: str | None) -> bytes | None:
        return self.answers.get(f"answers/{config}/{batch}/{image_sha256}")

    def read(self, key: str) -> bytes | None:
        return self.answers.get(key)

    def put_heatmap(self, config: str, image_sha256: str, png: bytes, *, batch: str | None) -> str:  # noqa: ARG002
        if self.heatmap_error:
            raise self.heatmap_error
        return f"heatmaps/{image_sha256}"

    def put_unreadable(self, config: str, image_sha256: str, raw: bytes, *, reason: str) -> str:
        assert reason
        if self.unreadable_error:
            raise self.unreadable_error
        key = f"unreadable/{config}/{image_sha256}"
        self.unreadable[key] = raw
        return key


@dataclass
class FakeFleet:
    """Grants what its script says, or all that is asked for."""

    quota: Quota = field(default_factory=Quota)
    script: Callable[[Demand], Share] = lambda demand: Share(concurrency=demand.wanted, starts=(0.0,) * demand.requests)
    demands: list[Demand] = field(default_factory=list)
    expires_s: float = 15.0

    def share(self, demand: Demand) -> Share:
        self.demands.append(demand)
        return self.script(demand)


@dataclass
class Bench:
    """A pipeline over fakes."""

    store: FakeStore
    images: FakeImages = field(default_factory=FakeImages)
    detector: FakeDetector = field(default_factory=FakeDetector)
    archive: FakeArchive = field(default_factory=FakeArchive)
    fleet: FakeFleet = field(default_factory=FakeFleet)
    settings: Settings = SETTINGS
    run: Run = RUN
    holder: Holder = field(default_factory=lambda: Holder(map_index=0, try_number=1))
    lose: Callable[[int], None] = field(default=lambda _: None)
    tallies: list[Tally] = field(default_factory=list)
    blamed: set[int] = field(default_factory=set)
    proven: bool = True

    def pipeline(self, *, worked: Callable[[Tally], None] | None = None) -> Pipeline:
        return Pipeline(self.parts(on_worked=worked))

    def parts(self, *, on_worked: Callable[[Tally], None] | None = None) -> Parts:
        return Parts(
            run=self.run,
            holder=self.holder,
            first=Chunk(batch_id=BATCH, number=0, began_at=datetime(2026, 1, 1, tzinfo=UTC)),
            images=self.images,
            detector=self.detector,
            archive=self.archive,
            store=self.store,
            fleet=self.fleet,
            settings=self.settings,
            rng=Random(1),
            lease_renewer=self._lease_renewer,
            on_worked=on_worked or self.tallies.append,
            blamed=self.blamed,
            detector_proven=self.proven,
        )

    def _lease_renewer(self, on_lost: Callable[[int], None]) -> LeaseRenewer:
        self.lose = on_lost
        return LeaseRenewer(lease_s=60, renew=lambda held: held, shut_overdue_calls=lambda: 0, on_lost=on_lost)

    def drain(self) -> None:
        self.pipeline().drain()
