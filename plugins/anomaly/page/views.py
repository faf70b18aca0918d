"""Saved views: filters of the gallery that a person has given names."""

from __future__ import annotations

import unicodedata
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Form, HTTPException, Path, Request, Response
from starlette.responses import RedirectResponse

from anomaly.db.views import VIEWS_MAX, ViewStore
from anomaly.page import filters
from anomaly.page.rendering import query, render

if TYPE_CHECKING:
    from anomaly.page.access import Access

NAME_MAX = 60
QUERY_MAX = 10_000
ViewId = Annotated[int, Path(ge=0, le=filters.ID_MAX)]
Text = Annotated[str, Form()]


def router(access: Access) -> APIRouter:
    """Return the routes. Each user has views of their own."""
    routes = APIRouter(prefix="/views")

    @routes.get("")
    def views(request: Request) -> Response:
        found = [(view, _described(view.query)) for view in store_of(request).views()]
        return render(request, "views.html", {"views": found, "name_max": NAME_MAX})

    @routes.post("", dependencies=access.to_change)
    def save(request: Request, name: Text = "", address: Text = "") -> Response:
        store, wanted = store_of(request), _named(name)
        kept = _filter_of(address)
        if not store.add(wanted, kept) and not any((view.name, view.query) == (wanted, kept) for view in store.views()):
            raise _not_saved(store, wanted)
        return _redirect(request, f"/gallery?{kept}")

    @routes.post("/{view_id}/rename", dependencies=access.to_change)
    def rename(request: Request, view_id: ViewId, name: Text = "") -> Response:
        store, wanted = store_of(request), _named(name)
        before = next((view.name for view in store.views() if view.view_id == view_id), None)
        if before is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "You have no such view.")
        if before != wanted and not store.rename(view_id, wanted):
            raise _not_saved(store, wanted)
        return _redirect(request, "/views")

    @routes.post("/{view_id}/delete", dependencies=access.to_change)
    def delete(request: Request, view_id: ViewId) -> Response:
        store_of(request).delete(view_id)  # one that is gone was deleted in another window
        return _redirect(request, "/views")

    return routes


def store_of(request: Request) -> ViewStore:
    """Return the views of the user."""
    return ViewStore(request.app.state.services.database(), request.state.reviewer)


def _named(name: str) -> str:
    """Return a name without spaces around it.

    Raises:
        HTTPException: it is empty, too long, or has control characters.
    """
    wanted = " ".join(name.split())
    if not wanted:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "A view needs a name.")
    if len(wanted) > NAME_MAX:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"The name of a view has at most {NAME_MAX} characters, and this one {len(wanted):,}.")
    if any(unicodedata.category(each) in {"Cc", "Cs"} for each in wanted):
        raise HTTPException(HTTPStatus.BAD_REQUEST, "The name of a view may not have control characters.")
    return wanted


def _filter_of(address: str) -> str:
    """Return the filter of a gallery's address in its usual form.

    Raises:
        HTTPException: a part makes no sense.
    """
    wanted = filters.read_list_query(dict(parse_qsl(address[:QUERY_MAX])))
    if wanted.problems:
        raise HTTPException(HTTPStatus.BAD_REQUEST, " ".join(wanted.problems))
    return query(wanted.address)


def _described(kept: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in parse_qsl(kept) if name != "order"]


def _not_saved(store: ViewStore, name: str) -> HTTPException:
    if any(view.name == name for view in store.views()):
        return HTTPException(HTTPStatus.CONFLICT, f"You have a view named “{name}” already.")
    return HTTPException(HTTPStatus.CONFLICT, f"The view was not saved: you have {VIEWS_MAX} already, or it was deleted meanwhile.")


def _redirect(request: Request, path: str) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}{path}", HTTPStatus.SEE_OTHER)
