"""The page about one record."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import RedirectResponse

from anomaly.db.page_record import RecordPageStore
from anomaly.db.quarantine import QuarantineStore
from anomaly.models.runs import QuarantineFilter
from anomaly.page.context import context_of
from anomaly.page.regions import outlines_of
from anomaly.page.rendering import render

if TYPE_CHECKING:
    from anomaly.page.access import Access
    from anomaly.page.services import Services


def router(access: Access) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/records")

    @routes.get("/{record_id}")
    def record(request: Request, record_id: int, token: int | None = None, requeued: bool = False) -> Response:  # noqa: FBT001, FBT002  # of the query
        return render(request, "record.html", {**_record(request.app.state.services, record_id, token), "requeued": requeued})

    @routes.post("/{record_id}/requeue", dependencies=access.to_change)
    def requeue(request: Request, record_id: int) -> Response:
        store = QuarantineStore(request.app.state.services.database())
        requeued = store.requeue_at_most(1, QuarantineFilter(record_ids=(record_id,)), actor=request.state.reviewer)
        done = "?requeued=true" if requeued else ""
        return RedirectResponse(f"{request.scope.get('root_path', '')}/records/{record_id}{done}", HTTPStatus.SEE_OTHER)

    return routes


def _record(services: Services, record_id: int, token: int | None) -> dict[str, Any]:
    store = RecordPageStore(services.database())
    found = store.record(record_id)
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"There is no record {record_id}.")
    results = store.results(record_id)
    shown = next((result for result in results if result.token == token), results[0] if results else None)
    context = context_of(services, found, shown) if shown else {}
    return context | {
        "record": found,
        "results": results,
        "shown": shown,
        "outlines": outlines_of(shown.regions, shown.regions_unit) if shown else None,
        "regions": json.dumps(shown.regions, indent=1) if shown and shown.regions else "",
        "events": store.events(record_id),
        "reviews": store.reviews(record_id),
        "attributes": {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.attributes.items()},
    }
