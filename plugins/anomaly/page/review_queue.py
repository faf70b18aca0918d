"""The queue of records that wait for a review: flagged records in the reader's order, with those of the random sample among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from anomaly.page import filters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomaly.db.page_gallery import GalleryStore, JudgedRecord
    from anomaly.page.filters import ListQuery

SIZE = 40
"""Records that the browser gets at once."""
SAMPLED = 4
"""Those of the sample among them, while there are flagged records: a share of the reviews that does not depend on the order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePage:
    """The next records of the queue, and the query of the page after them; None at the end."""

    records: Sequence[JudgedRecord]
    following: str | None
    left: int
    """All that wait, at most `COUNT_MAX` of `db.page_gallery`."""


def read_query(query: Mapping[str, str]) -> ListQuery:
    return filters.read_list_query({"review": "open", **query})


def is_mixed(wanted: ListQuery) -> bool:
    """Return whether the queue has the sample among flagged records, so that the reader must not know which is which."""
    return wanted.chosen.verdict is None and wanted.chosen.reviewed == "open"


def page(store: GalleryStore, query: Mapping[str, str]) -> QueuePage:
    """Return the page of the queue that *query* asks for."""
    wanted = read_query(query)
    left = store.count(wanted.chosen)
    if not is_mixed(wanted):
        records = store.judged(wanted.chosen, wanted.order, after=wanted.after, size=SIZE, count=left)
        after = filters.position_after(records[-1], wanted.order) if len(records) == SIZE else None
        return QueuePage(records=records, following=_query(after=after) if after else None, left=left)
    sample_query = filters.read_list_query({"after": query.get("sample_after", "")}, order="time")
    flagged = store.judged(replace(wanted.chosen, verdict=True), wanted.order, after=wanted.after, size=SIZE - SAMPLED)
    room = SIZE - len(flagged)
    sample = store.judged(replace(wanted.chosen, verdict=False), "time", after=sample_query.after, size=room)
    after = filters.position_after(flagged[-1], wanted.order) if flagged else query.get("after")
    sample_after = filters.position_after(sample[-1], "time") if sample else query.get("sample_after")
    is_last = len(flagged) < SIZE - SAMPLED and len(sample) < room
    return QueuePage(
        records=_mixed(flagged, sample),
        following=None if is_last else _query(after=after, sample_after=sample_after),
        left=left,
    )


def _mixed(flagged: Sequence[JudgedRecord], sample: Sequence[JudgedRecord]) -> list[JudgedRecord]:
    """Return the flagged records in their order with those of the sample at random places, the same ones for the same records."""
    found = list(flagged)
    places = Random(sum(record.record_id for record in flagged))  # noqa: S311  # not a secret
    for record in sample:
        found.insert(places.randint(0, len(found)), record)
    return found


def _query(**values: Any) -> str:
    return urlencode({name: value for name, value in values.items() if value})
