"""Filter, order and position of a list of records, as they stand in the address of a page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from anomaly.db.page_gallery import ORDERS, GalleryFilter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly.db.page_gallery import After, JudgedRecord, Order, UnjudgedRecord

STATES = {"judged": "Judged", "quarantined": "Failed", "pending": "Waiting", "claimed": "In work"}
"""Lists of records, by the state that they show, and their names."""
REVIEWS = {"open": "to review", "done": "reviewed", "anomaly": "anomaly", "normal": "normal", "unsure": "unsure"}
ORDER_NAMES = {"score": "Highest score", "uncertain": "Most uncertain", "time": "Newest image"}
FIELDS = ("verdict", "review", "low", "high", "label", "detector", "since", "until", "attribute", "value")
TEXT_MAX = 300
YEAR_MAX = 9999
ID_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """The address of a list, read. Parts that make no sense are left out and named in *problems*."""

    state: str
    order: Order
    chosen: GalleryFilter
    after: After | None
    fields: dict[str, str]
    """The filter's fields as they were written."""
    problems: tuple[str, ...]

    @property
    def address(self) -> dict[str, Any]:
        """Parts of the address that stay when another page of the list is shown."""
        return {
            "state": None if self.state == "judged" else self.state,
            "order": None if self.order == "score" else self.order,
            **self.fields,
        }


def read_list_query(query: Mapping[str, str], *, state: str = "judged", order: Order = "score") -> ListQuery:
    """Read the query of an address."""
    problems: list[str] = []
    fields = {name: value[:TEXT_MAX].replace("\0", "") for name in FIELDS if (value := query.get(name, "").strip())}
    values: dict[str, Any] = {name: fields.get(name) for name in ("label", "detector")}
    values["verdict"] = _one_of(fields, "verdict", {"anomaly": True, "normal": False}, problems)
    values["reviewed"] = _one_of(fields, "review", {name: name for name in REVIEWS}, problems)
    values["low"], values["high"] = (_number(fields, name, problems) for name in ("low", "high"))
    values["since"], until = (_day(fields, name, problems) for name in ("since", "until"))
    values["until"] = until + timedelta(days=1) if until else None
    if "attribute" in fields:
        values |= {"attribute": fields["attribute"], "attribute_value": fields.get("value", "")}
    order = _one_of(query, "order", {each: each for each in ORDERS}, problems) or order
    state = _one_of(query, "state", {each: each for each in STATES}, problems) or state
    by_time = state != "judged" or order == "time"
    after = _position(query.get("after", ""), by_time=by_time, problems=problems)
    return ListQuery(state=state, order=order, chosen=GalleryFilter(**values), after=after, fields=fields, problems=tuple(problems))


def position_after(record: JudgedRecord | UnjudgedRecord, order: Order) -> str | None:
    """Return the parameter `after` of the page that begins after a record."""
    return position_text(record.position(order))


def position_text(position: After | None) -> str | None:
    """Return the parameter `after` for a position in a list."""
    if position is None:
        return None
    value, record_id = position
    return f"{value.isoformat() if isinstance(value, datetime) else repr(value)}~{record_id}"


def _position(text: str, *, by_time: bool, problems: list[str]) -> After | None:
    if not text:
        return None
    value, _, record_id = text.partition("~")
    try:
        position: float | datetime = datetime.fromisoformat(value) if by_time else float(value)
        found = int(record_id)
    except ValueError:
        found = -1
    if not 0 <= found <= ID_MAX:
        problems.append("The place in the list is not known; the list begins anew.")
        return None
    return position, found


def _one_of(query: Mapping[str, str], name: str, known: Mapping[str, Any], problems: list[str]) -> Any:
    text = query.get(name, "")
    if text and text not in known:
        problems.append(f"{name}: there is no “{text[:TEXT_MAX]}”; there are {', '.join(known)}.")
    return known.get(text)


def _number(query: Mapping[str, str], name: str, problems: list[str]) -> float | None:
    text = query.get(name, "")
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        problems.append(f"{name}: “{text}” is not a number.")
        return None
    return value


def _day(query: Mapping[str, str], name: str, problems: list[str]) -> datetime | None:
    text = query.get(name, "")
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) if text else None
    except ValueError:
        problems.append(f"{name}: “{text}” is not a day such as 2026-01-31.")
        return None
    return day if day is None or day.year < YEAR_MAX else None
