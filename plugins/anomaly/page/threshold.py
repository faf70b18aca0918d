"""The threshold of a detector: what each one would do, and the one that people store."""

from __future__ import annotations

import math
import uuid
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from anomaly.db.page_threshold import ScoreQuery, ThresholdPageStore
from anomaly.db.thresholds import LEFT_MAX, ThresholdStore
from anomaly.maintenance.thresholds import threshold_store
from anomaly.page.rendering import render
from anomaly.page.threshold_view import grid, view

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly.db.page_threshold import RecordCell, ReviewCell, ScoreSpan
    from anomaly.page.access import Access
    from anomaly.page.services import Services
    from anomaly.page.threshold_view import View

RANGES = {"7": "7 days", "30": "30 days", "90": "90 days", "all": "All"}
DEFAULT_RANGE = "30"
HISTORY = 10
"""Stored thresholds that are shown."""
FOLLOW_S = 1.0
"""Time for which one request changes flags; the browser sends another one until none is left."""
FOLLOW_BATCH = 500
REASON_MAX = 500


def router(access: Access) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/threshold")

    @routes.get("")
    def threshold(request: Request) -> Response:
        return _shown(request, request.query_params)

    @routes.post("", dependencies=access.to_change)
    async def store(request: Request) -> Response:
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        return await run_in_threadpool(_store, request, form)

    @routes.post("/follow", dependencies=access.to_change)
    async def follow(request: Request) -> Response:
        detector = (await request.form()).get("detector")
        wanted = detector if isinstance(detector, str) and "\x00" not in detector else ""
        await run_in_threadpool(lambda: _store_of(request.app.state.services).follow(wanted, within_s=FOLLOW_S))
        return _to_page(request, detector=wanted)

    return routes


def _store(request: Request, form: Mapping[str, str]) -> Response:
    """Store the threshold of the form, let the first flags follow, and show the page; without a usable form, show what is wrong."""
    services: Services = request.app.state.services
    pages = ThresholdPageStore(services.database())
    detector, reason = form.get("detector", ""), form.get("reason", "").strip()
    span = pages.span(detector) if detector in pages.choices().detectors else None
    if fault := _fault(form, reason, span):
        return _shown(request, form, fault=fault, status=HTTPStatus.BAD_REQUEST)
    store = _store_of(services)
    store.add(uuid.UUID(form["id"]), detector=detector, threshold=float(form["threshold"]), reason=reason, actor=request.state.reviewer)
    store.follow(detector, within_s=FOLLOW_S)
    return _to_page(request, detector=detector, stored=form["id"])


def _fault(form: Mapping[str, str], reason: str, span: ScoreSpan | None) -> str | None:
    """Return a sentence about what makes the form unusable."""
    if span is None or span.low is None or span.high is None:
        return "Nothing was stored: there is no such detector."
    value, edges = _number(form.get("threshold", "")), grid(span.low, span.high)
    if value is None:
        return "Nothing was stored: the threshold is not a number."
    if not min(edges[0], span.low) <= value <= max(edges[-1], span.high):
        return f"Nothing was stored: the threshold has to be from {edges[0]:g} to {edges[-1]:g}, the range of the detector's scores."
    if not reason or len(reason) > REASON_MAX or "\x00" in reason:
        return f"Nothing was stored: write a reason of 1 to {REASON_MAX} characters, so that others understand the change later."
    try:
        uuid.UUID(form.get("id", ""))
    except ValueError:
        return "Nothing was stored: the form is incomplete. Send it again."
    return None


def _shown(request: Request, asked: Mapping[str, str], *, fault: str | None = None, status: int = HTTPStatus.OK) -> Response:
    services: Services = request.app.state.services
    pages, store = ThresholdPageStore(services.database()), ThresholdStore(services.database())
    choices = pages.choices()
    problems = [fault] if fault else []
    detector = asked.get("detector") or choices.newest or next(iter(choices.detectors), None)
    if detector not in choices.detectors:
        if asked.get("detector") and not fault:
            problems.append("There is no such detector; the page shows the newest one.")
        detector = choices.newest or next(iter(choices.detectors), None)
    values: dict[str, Any] = {
        "choices": choices,
        "detector": detector,
        "ranges": RANGES,
        "range": asked.get("days") if asked.get("days") in RANGES else DEFAULT_RANGE,
        "source": asked.get("source") if asked.get("source") in choices.sources else None,
        "problems": problems,
        "reason": asked.get("reason", "") if fault else "",
        "form_id": uuid.uuid4(),
        "view": None,
        "left_max": LEFT_MAX,
    }
    if detector is None:
        return render(request, "threshold.html", values, status=status)
    span, history = pages.span(detector), store.stored(detector, size=HISTORY)
    in_force = {value for value in (span.threshold_low, span.threshold_high, *(each.threshold for each in history)) if value is not None}
    now = history[0].threshold if history else span.threshold_high
    chosen = _chosen(asked, span, problems) if not fault else None
    values |= {
        "history": history,
        "now": now,
        "mixed": not history and span.threshold_low != span.threshold_high,
        "overtaken": bool(asked.get("stored")) and bool(history) and str(history[0].id) != asked.get("stored"),
        "stored": any(str(each.id) == asked.get("stored") for each in history),
        "left": store.left(detector) if history else 0,
        "view": _view(services, span, values, in_force=in_force, chosen=now if chosen is None else chosen),
    }
    return render(request, "threshold.html", values, status=status)


def _view(services: Services, span: ScoreSpan, values: Mapping[str, Any], *, in_force: set[float], chosen: float | None) -> View | None:
    if span.low is None or span.high is None:
        return None
    usual = sorted({*grid(span.low, span.high), *in_force})
    chosen = usual[len(usual) // 2] if chosen is None else chosen
    edges = tuple(sorted({*usual, chosen}))
    days = values["range"]
    since = span.newest_at - timedelta(days=int(days)) if days != "all" and span.newest_at else None
    wanted = ScoreQuery(detector=values["detector"], since=since, source=values["source"])
    pages = ThresholdPageStore(services.database())

    def load() -> tuple[list[RecordCell], list[ReviewCell]]:
        return pages.records(wanted, edges), pages.reviews(wanted, edges)

    # A threshold that somebody has typed is not cached: there are too many.
    key = ("threshold", wanted.detector, days, wanted.source, edges)
    records, reviews = services.cached(key, load) if chosen in usual else load()
    return view(records=records, reviews=reviews, edges=edges, in_force=in_force, chosen=chosen)


def _chosen(asked: Mapping[str, str], span: ScoreSpan, problems: list[str]) -> float | None:
    """Return the threshold in the address; one that makes no sense is left out and named in *problems*."""
    text = asked.get("exactly") or asked.get("threshold")
    if not text or span.low is None or span.high is None:
        return None
    value, edges = _number(text), grid(span.low, span.high)
    if value is None:
        problems.append("The threshold in the address is not a number; the page shows the one in force.")
    elif not edges[0] <= value <= edges[-1]:
        problems.append(f"The threshold has to be from {edges[0]:g} to {edges[-1]:g}, the range of the detector's scores.")
        return None
    return value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _store_of(services: Services) -> ThresholdStore:
    return threshold_store(services.settings, services.database(), batch=FOLLOW_BATCH)


def _to_page(request: Request, **values: str) -> Response:
    return RedirectResponse(f"{request.scope.get('root_path', '')}/threshold?{urlencode(values)}", HTTPStatus.SEE_OTHER)
