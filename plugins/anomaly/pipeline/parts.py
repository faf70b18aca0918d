"""What the steps ask of the gateways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.models.answers import Answer, AnswerLookup, ArchiveKeys, Ask, EarlierAnswer, FoundAnswer, Verdict
    from anomaly.models.records import Claim, Image
    from anomaly.models.runs import Holder, Run


class ImageSource(Protocol):
    def fetch(self, url: str) -> Image: ...


class Detector(Protocol):
    @property
    def config(self) -> str:
        """Digest of everything that shapes an answer."""
        ...

    def ask(self, image: Image, *, idempotency_key: str) -> Answer:
        """One request."""
        ...

    def read(self, raw: bytes) -> Verdict:
        """An answer that was archived."""
        ...


class Archive(Protocol):
    def put_image(self, image: Image) -> str: ...
    def put_answer(self, config: str, image_sha256: str, raw: bytes, *, batch: str | None) -> str: ...
    def find_answer(self, config: str, image_sha256: str, *, batch: str | None) -> bytes | None: ...
    def read_answer(self, key: str) -> bytes | None: ...
    def put_heatmap(self, config: str, image_sha256: str, png: bytes, *, batch: str | None) -> str: ...


class Results(Protocol):
    """What is known of earlier results, whose turn it is to ask for a new one, and how that is added."""

    def find_answers(self, run: Run, *, config: str, image_sha256s: Sequence[str]) -> dict[str, EarlierAnswer]: ...
    def find_or_acquire_ask(
        self, run: Run, holder: Holder, *, config: str, wanted: Sequence[AnswerLookup]
    ) -> dict[str, FoundAnswer | Ask]: ...
    def release_ask(self, run: Run, claim: Claim, *, config: str, image_sha256: str) -> None: ...

    def commit(
        self,
        claim: Claim,
        answer: Answer,
        archived: ArchiveKeys,
        *,
        config: str,
        image_sha256: str,
        run: Run,
        holder: Holder,
        timings: dict[str, float],
    ) -> None: ...
