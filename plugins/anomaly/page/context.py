"""The images of the same source before a record: the last good one, and the distribution of their scores."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Request, Response

from anomaly.db.page_context import LOOK_BACK, ContextStore, last_good
from anomaly.db.page_record import RecordPageStore
from anomaly.page import charts
from anomaly.page.rendering import render, score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.db.page_context import SourceImage
    from anomaly.db.page_record import RecordDetails, Result
    from anomaly.page.access import Access
    from anomaly.page.services import Services

BARS = 30
EARLIER_MAX = 3
"""Earlier results and decisions that are listed beside a record in the review queue."""


def router(_: Access) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/records/{record_id}/context")
    def context(request: Request, record_id: int, token: int) -> Response:
        """Return what the review queue shows beside an image, as a part of the page."""
        services = request.app.state.services
        store = RecordPageStore(services.database())
        record = store.record(record_id)
        results = store.results(record_id)
        shown = next((result for result in results if result.token == token), None)
        if record is None or shown is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"There is no record {record_id} with this verdict.")
        values = context_of(services, record, shown) | {
            "record": record,
            "shown": shown,
            "earlier": [result for result in results if result.token < token][:EARLIER_MAX],
            "reviews": [review for review in store.reviews(record_id) if review.verdict and not review.taken_back][:EARLIER_MAX],
        }
        return render(request, "_context.html", values)

    return routes


def context_of(services: Services, record: RecordDetails, shown: Result) -> dict[str, Any]:
    """Return the last good image of the record's source, and where its score is in the distribution of the source."""
    names = [name for each in services.settings.same_source.split(",") if (name := each.strip())]
    missing = [name for name in names if name not in record.attributes]
    same = {name: record.attributes[name] for name in names if name not in missing}
    store = ContextStore(services.database())
    images = [] if missing else store.before(record.id, record.image_at, source=record.source, same=same)
    scores = [image.score for image in images if image.detector == shown.detector and math.isfinite(image.score)]
    return {
        "source_name": ", ".join(f"{name} {value}" for name, value in same.items()) or record.source,
        "missing": missing,
        "good": last_good(images),
        "look_back": LOOK_BACK,
        "compared": len(scores),
        "above": sum(each < shown.score for each in scores) / len(scores) if scores else None,
        "source_chart": source_chart(images, shown) if scores and math.isfinite(shown.score) else None,
    }


def source_chart(images: Sequence[SourceImage], shown: Result) -> charts.Chart | None:
    """Return the distribution of the source's scores by the same detector, with this score and its threshold as lines."""
    found = [image for image in images if image.detector == shown.detector and math.isfinite(image.score)]
    low = min(shown.score, *(image.score for image in found))
    high = max(shown.score, *(image.score for image in found))
    span = (high - low) or abs(high) or 1.0
    counts: dict[int, Counter[str]] = {}
    for image in found:
        bar = min(BARS - 1, int((image.score - low) / span * BARS))
        counts.setdefault(bar + 1, Counter())["normal" if image.is_good else "anomaly"] += 1
    edges = [low + n / BARS * span for n in range(BARS + 1)]
    shares = {bar: [(kind, found[kind]) for kind in ("anomaly", "normal")] for bar, found in counts.items()}
    chart = charts.cell_chart("Scores of this source", edges, shares)
    marks = [(shown.score, "this image"), (shown.threshold, "threshold")]
    lines = tuple(
        charts.Mark(at=charts.LEFT + (value - low) / span * charts.PLOT_WIDTH, label=name, title=f"{name} {score(value)}")
        for value, name in marks
        if value is not None and low <= value <= low + span
    )
    return chart and dataclasses.replace(chart, lines=lines)
