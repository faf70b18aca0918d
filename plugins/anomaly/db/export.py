"""Reads records with their newest verdict for an export, a page at a time: transactions are short, however slowly the rows are taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anomaly.db.inspection import PAGE, beginning
from anomaly.db.page_gallery import GalleryFilter, GalleryStore
from anomaly.models.runs import Window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.db.client import Database

STATUSES = ("pending", "claimed", "done", "quarantined")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFilter:
    """Chooses records. Those match that fulfil every given condition."""

    statuses: tuple[str, ...] = STATUSES
    error_code: str | None = None
    detector: str | None = None
    """Only records with a result of this detector, whose newest one is returned."""
    window: Window = field(default_factory=Window)
    judged: GalleryFilter | None = None
    """Only judged records that the gallery shows with this filter. It replaces *detector* and *window*."""


class ExportStore:
    """Yields records by a filter. Memory holds one page of them.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database, *, page: int = PAGE) -> None:
        self._database = database
        self._page = page

    def rows(self, chosen: ExportFilter) -> Iterator[dict[str, Any]]:
        """Yield the chosen records with their newest result and their flags.

        Judged records come by score, the highest first; others one status after the other, by capture time. A record whose status or
        score changes meanwhile may be left out, or come twice.
        """
        judged = chosen.judged
        detector = None if judged else chosen.detector
        for ids in self._judged(judged) if judged else self._by_status(chosen):
            for row in self._database.fetch_all("export_records", {"record_ids": ids, "detector": detector}):
                if (
                    row["status"] in chosen.statuses
                    and chosen.error_code in {None, row["last_error_code"]}
                    and (row["detector"] or not detector)
                ):
                    yield row

    def _by_status(self, chosen: ExportFilter) -> Iterator[list[int]]:
        for status in chosen.statuses:
            params = {"status": status, "window_end": chosen.window.end, "size": self._page, **beginning(chosen.window)}
            while found := self._database.fetch_all("export_page", params):
                yield [row["record_id"] for row in found]
                params |= {"after_at": found[-1]["at"], "after_id": found[-1]["record_id"]}

    def _judged(self, chosen: GalleryFilter) -> Iterator[list[int]]:
        store, after = GalleryStore(self._database), None
        while found := store.judged(chosen, "score", after=after, size=self._page):
            yield [record.record_id for record in found]
            after = found[-1].position("score")
