"""The overview: backlog, runs, failures and charts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from anomaly.db.page_overview import OverviewStore
from anomaly.db.quarantine import QuarantineStore
from anomaly.models.runs import QuarantineFilter
from anomaly.page import charts
from anomaly.page.rendering import render
from anomaly.pipeline.runs import optional

if TYPE_CHECKING:
    from anomaly.models.runs import Backlog
    from anomaly.page.access import Access
    from anomaly.page.services import Services

RUNS = 10
REQUEUE_MAX = 10_000
"""Most records that one press of the button requeues, so that it is answered within seconds."""
RANGES = {1: ("24 hours", "hour"), 7: ("7 days", "day"), 30: ("30 days", "day"), 90: ("90 days", "day")}
"""The ranges of the charts, in days: name and width of a bar."""
DEFAULT_DAYS = 7


def router(access: Access) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/")
    def overview(request: Request, days: int = DEFAULT_DAYS, requeued: int | None = None) -> Response:
        services = request.app.state.services
        days = days if days in RANGES else DEFAULT_DAYS
        values = _tiles(services) | _tables(services) | services.cached(("charts", days), lambda: _charts(services, days))
        return render(request, "overview.html", {**values, "days": days, "ranges": RANGES, "requeued": requeued})

    @routes.get("/now/tiles")
    def tiles(request: Request) -> Response:
        """Return the backlog as a part of the page."""
        return render(request, "_tiles.html", _tiles(request.app.state.services))

    @routes.get("/now/tables")
    def tables(request: Request) -> Response:
        """Return runs and failures as a part of the page."""
        return render(request, "_tables.html", _tables(request.app.state.services))

    @routes.post("/requeue", dependencies=access.to_change)
    async def requeue(request: Request) -> Response:
        form = await request.form()
        code = form.get("code")
        requeued = await run_in_threadpool(
            _requeue, request.app.state.services, code if isinstance(code, str) else "", request.state.reviewer
        )
        return RedirectResponse(f"{request.scope.get('root_path', '')}/?requeued={requeued}", HTTPStatus.SEE_OTHER)

    return routes


def _tiles(services: Services) -> dict[str, Any]:
    store = OverviewStore(services.database())
    backlog, active = store.backlog(), store.active()
    records_per_s = sum(run.records / run.seconds for run in active)
    return {"backlog": backlog, "active": active, "records_per_s": records_per_s, "left_s": _left_s(backlog, records_per_s)}


def _tables(services: Services) -> dict[str, Any]:
    store = OverviewStore(services.database())
    return {"runs": store.runs(size=RUNS), "failures": store.failures()}


def _left_s(backlog: Backlog, records_per_s: float) -> float | None:
    """Return the seconds until nothing is due, at the present rate."""
    return (backlog.due + backlog.claimed) / records_per_s if records_per_s else None


def _charts(services: Services, days: int) -> dict[str, Any]:
    store = OverviewStore(services.database())
    optional("verdicts not summed", store.sum_verdicts)
    width: Literal["hour", "day"] = "hour" if RANGES[days][1] == "hour" else "day"
    step = timedelta(hours=1) if width == "hour" else timedelta(days=1)
    until = datetime.now(UTC)
    since = charts.floored(until - timedelta(days=days), step)
    scores_since = charts.floored(since, timedelta(days=1))
    counts = store.verdicts(since=since, step=width)
    detector = max(counts, key=lambda count: (count.at, count.first_at)).detector if counts else None
    used = [each for count in counts if count.detector == detector for each in (count.threshold_low, count.threshold_high)]
    bins = store.scores(since=scores_since, detector=detector) if detector else []
    return {
        "verdicts": sum(count.verdicts for count in counts),
        "anomalies": sum(count.anomalies for count in counts),
        "detector": detector,
        "verdict_chart": charts.verdict_chart(counts, since=since, until=until, step=step),
        "score_chart": charts.score_chart(bins, thresholds=[each for each in used if each is not None]),
        "scores_since": f"{scores_since:%d %b}",
    }


def _requeue(services: Services, code: str, user: str) -> int:
    store = QuarantineStore(services.database())
    return store.requeue_at_most(REQUEUE_MAX, QuarantineFilter(error_code=code), actor=user) if code else 0
