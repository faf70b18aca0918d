"""Filters of the gallery that a person has saved under names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomaly.db.client import Database

VIEWS_MAX = 100
"""Views of one person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedView:
    """A filter with its name; *query* is that of the gallery's address."""

    view_id: int
    name: str
    query: str


class ViewStore:
    """The views of one person. Others neither see nor change them.

    Every method raises DatabaseUnavailable without an answer, and Misconfigured if the schema does not fit.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner

    def views(self) -> list[SavedView]:
        """Return all views by name."""
        return [SavedView(**row) for row in self._database.fetch_all("list_views", {"owner": self._owner})]

    def add(self, name: str, query: str) -> bool:
        """Save a view; return False if the name exists, or `VIEWS_MAX` views."""
        params = {"owner": self._owner, "name": name, "address": query, "size": VIEWS_MAX}
        return self._database.fetch_one("add_view", params, idempotent=False) is not None

    def rename(self, view_id: int, name: str) -> bool:
        """Give a view another name; return False if there is no such view, or one of that name."""
        return self._changed("rename_view", view_id, name=name)

    def delete(self, view_id: int) -> bool:
        """Delete a view; return False if there is none."""
        return self._changed("delete_view", view_id)

    def _changed(self, statement: str, view_id: int, **params: str) -> bool:
        params |= {"owner": self._owner}
        return self._database.fetch_one(statement, {"view_id": view_id, **params}, idempotent=False) is not None
