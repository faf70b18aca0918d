"""Queries of the page's gallery and of the review queue. A page begins after the last record of the one before, by an index."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from anomaly.db.client import Database

Order = Literal["score", "uncertain", "time"]
ORDERS: tuple[Order, ...] = ("score", "uncertain", "time")
Status = Literal["pending", "claimed", "quarantined"]
COUNT_MAX = 10_000
"""Counts of a filter stop here."""
CANDIDATES = 3000
"""Records of which one page looks up an attribute."""
SORTED_MAX = 50_000
After = tuple[float | datetime, int]
"""The last record of the page before: its score, margin or time, and its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryFilter:
    """Conditions on judged records. None is no condition."""

    verdict: bool | None = None
    """True chooses anomalies."""
    reviewed: str | None = None
    """`open` chooses records to be reviewed, `done` those with a review, any other text those with this review."""
    low: float | None = None
    high: float | None = None
    label: str | None = None
    detector: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    attribute: str | None = None
    attribute_value: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRecord:
    """A record with its newest verdict and review."""

    record_id: int
    token: int
    score: float
    threshold: float | None
    margin: float | None
    is_anomaly: bool
    label: str | None
    detector: str
    image_at: datetime | None
    review: str | None
    reviewed_by: str | None
    needs_review: bool
    image_sha256: str
    has_heatmap: bool

    def position(self, order: Order) -> After | None:
        """Return where the page after this record begins; None if the order has no value for it."""
        value = {"score": self.score, "uncertain": self.margin, "time": self.image_at}[order]
        return None if value is None else (value, self.record_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnjudgedRecord:
    """A record that waits, is in work, or has failed."""

    id: int
    image_at: datetime
    status: str
    attempts: int
    not_before: datetime | None
    last_error_code: str | None
    last_error: str | None
    image_url: str

    def position(self, _order: Order) -> After:
        """Return where the page after this record begins: these lists are ordered by time."""
        return self.image_at, self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryPage:
    """The next judged records of a filter, and where the page after them begins; None at the end.

    With an attribute, a page may have fewer records than were asked for, although there are more.
    """

    records: list[JudgedRecord]
    after: After | None


class GalleryStore:
    """Records by filter and order.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database, *, candidates: int = CANDIDATES) -> None:
        self._database = database
        self._candidates = candidates

    def page(self, chosen: GalleryFilter, order: Order, *, after: After | None, size: int, count: int | None = None) -> GalleryPage:
        """Return the next judged records of a filter, at most *size*. *count* is the result of `count`, where it is known."""
        if count == 0:
            return GalleryPage(records=[], after=None)
        position, record_id = after or (None, None)
        candidates = self._candidates if chosen.attribute else size + 1
        is_few = count is not None and self._is_few(chosen, order, count)
        params = {"after": position, "after_id": record_id, "size": size + 1, "candidates": candidates, "is_few": is_few}
        rows = self._database.fetch_all(f"page_gallery_{order}", {**_params(chosen), **params})
        marks = [(row.pop("is_match"), row.pop("is_last")) for row in rows]
        records = [JudgedRecord(**row) for row in rows]
        found = [record for record, (is_match, _) in zip(records, marks, strict=True) if is_match]
        if len(found) > size:
            return GalleryPage(records=found[:size], after=found[size - 1].position(order))
        searched_all = not chosen.attribute or not any(is_last for _, is_last in marks)
        return GalleryPage(records=found, after=None if searched_all else records[-1].position(order))

    def judged(
        self, chosen: GalleryFilter, order: Order, *, after: After | None, size: int, count: int | None = None
    ) -> list[JudgedRecord]:
        """Return the next *size* judged records of a filter, however many have to be searched for an attribute."""
        found: list[JudgedRecord] = []
        while True:
            page = self.page(chosen, order, after=after, size=size - len(found), count=count)
            found += page.records
            after = page.after
            if after is None or len(found) == size:
                return found

    def count(self, chosen: GalleryFilter, *, most: int = COUNT_MAX) -> int:
        """Return the number of judged records of a filter, at most *most*; an attribute is no condition of it."""
        records: int = self._database.fetch_all("page_gallery_count", {**_params(chosen), "size": most})[0]["records"]
        return records

    def _is_few(self, chosen: GalleryFilter, order: Order, count: int) -> bool:
        """Return whether all records of a filter should be found and then sorted.

        So it is with few records, which the planner may take for many, and with those of a range of scores by their margin, which
        follows from the score: their walk along the index of the order passes all other records first.
        """
        if count < COUNT_MAX:
            return True
        scores = GalleryFilter(low=chosen.low, high=chosen.high)
        return order == "uncertain" and scores != GalleryFilter() and self.count(scores, most=SORTED_MAX) < SORTED_MAX

    def unjudged(self, status: Status, *, after: After | None, size: int) -> list[UnjudgedRecord]:
        """Return the next *size* records of a status, the newest first."""
        position, record_id = after or (None, None)
        params = {"status": status, "after": position, "after_id": record_id, "size": size}
        return [UnjudgedRecord(**row) for row in self._database.fetch_all("page_unjudged", params)]

    def choices(self) -> tuple[list[str], list[str]]:
        """Return the labels and the detectors of the newest verdicts."""
        row = self._database.fetch_all("page_choices", {})[0]
        return row["labels"], row["detectors"]


def _params(chosen: GalleryFilter) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in GalleryFilter.__dataclass_fields__}
