"""The gallery, and the pictures that it and other pages show."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import APIRouter, HTTPException, Request, Response

from anomaly.db.page_gallery import CANDIDATES, COUNT_MAX, GalleryStore
from anomaly.db.page_record import RecordPageStore
from anomaly.export.formats import FORMATS
from anomaly.page import filters, pictures, views
from anomaly.page.pictures import Kind, NoPicture
from anomaly.page.rendering import render, render_picture

if TYPE_CHECKING:
    from anomaly.page.access import Access
    from anomaly.page.filters import ListQuery
    from anomaly.page.services import Services

SIZE = 48
"""Records on a page."""
AT_ONCE = 3
"""Pictures that one process reads and decodes at the same time; it serves Airflow's own pages as well."""
CACHE = "private, max-age=604800, immutable"
"""A result and its pictures never change."""


def router(_: Access) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()
    limiter = anyio.CapacityLimiter(AT_ONCE)

    @routes.get("/gallery")
    def gallery(request: Request) -> Response:
        wanted = filters.read_list_query(request.query_params)
        saved = {"views": views.store_of(request).views(), "name_max": views.NAME_MAX}
        return render(request, "gallery.html", {**_listed(request.app.state.services, wanted), **saved})

    @routes.get("/pictures/{record_id}/{token}/{kind}")
    async def picture(request: Request, record_id: int, token: int, kind: Kind) -> Response:
        load = partial(_picture, request.app.state.services, record_id, token, kind)
        try:
            content, media_type = await anyio.to_thread.run_sync(load, limiter=limiter)
        except NoPicture as exc:
            return render_picture(str(exc), status=HTTPStatus.NOT_FOUND)
        headers = {"Cache-Control": CACHE, "Content-Security-Policy": "sandbox; default-src 'none'"}
        return Response(content, media_type=media_type, headers=headers)

    return routes


def _listed(services: Services, wanted: ListQuery) -> dict[str, Any]:
    store = GalleryStore(services.database())
    judged = wanted.state == "judged"
    records: Any
    count = None
    if wanted.state in {"pending", "claimed", "quarantined"}:
        records = store.unjudged(wanted.state, after=wanted.after, size=SIZE + 1)  # type: ignore[arg-type]  # see the line above
        next_page = filters.position_after(records[SIZE - 1], wanted.order) if len(records) > SIZE else None
    else:
        count = store.count(wanted.chosen)
        page = store.page(wanted.chosen, wanted.order, after=wanted.after, size=SIZE, count=count)
        records, next_page = page.records, filters.position_text(page.after)
        if wanted.chosen.attribute:
            count = None if wanted.after or next_page else len(records)
    labels, detectors = services.cached("choices", store.choices)
    return {
        "wanted": wanted,
        "fields": dict.fromkeys(filters.FIELDS, "") | wanted.fields,
        "judged": judged,
        "records": records[:SIZE],
        "next_page": next_page,
        "count": count,
        "count_max": COUNT_MAX,
        "is_search": bool(wanted.chosen.attribute and next_page and len(records) < SIZE),
        "candidates": CANDIDATES,
        "labels": labels,
        "detectors": detectors,
        "states": filters.STATES,
        "reviews": filters.REVIEWS,
        "orders": filters.ORDER_NAMES,
        "formats": {name: each for name, each in FORMATS.items() if each.is_available},
    }


def _picture(services: Services, record_id: int, token: int, kind: Kind) -> tuple[bytes, str]:
    keys = RecordPageStore(services.database()).keys(record_id, token)
    if keys is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    key = keys.heatmap_key if kind.startswith("heatmap") else keys.image_key
    if key is None:
        raise NoPicture("there is no heat map")
    max_px = services.settings.image_max_px
    if kind.endswith("thumbnail"):
        return pictures.thumbnail(services.archive(), key, max_px=max_px), "image/webp"
    return pictures.original(services.archive(), key, max_px=max_px)
