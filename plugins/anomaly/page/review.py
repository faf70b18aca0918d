"""Review: the queue of records that a person has to look at, and the decisions that a browser sends."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID  # noqa: TC003  # pydantic reads it

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field, StringConstraints, model_validator

from anomaly.db.page_gallery import COUNT_MAX, GalleryStore
from anomaly.db.reviews import Decision, ReviewStore, ReviewVerdict
from anomaly.db.source_store import with_write_back
from anomaly.maintenance.sources import sources
from anomaly.page import filters, review_queue
from anomaly.page.rendering import render

if TYPE_CHECKING:
    from anomaly.db.page_gallery import JudgedRecord
    from anomaly.page.access import Access
    from anomaly.page.services import Services

DECISIONS_MAX = 200
BIGINT = Field(ge=0, le=2**63 - 1)
Text = Annotated[str, StringConstraints(max_length=2000, strip_whitespace=True, pattern=r"^[^\x00]*$")]


class SentDecision(BaseModel):
    """A decision as a browser sends it."""

    id: UUID
    record_id: int = BIGINT
    token: int = BIGINT
    verdict: ReviewVerdict | None = None
    label: Text | None = None
    comment: Text | None = None
    takes_back: UUID | None = None

    @model_validator(mode="after")
    def _decides_or_takes_back(self) -> SentDecision:
        if (self.verdict is None) != (self.takes_back is not None):
            raise ValueError("a decision has a verdict, or the id of the decision that it takes back")
        return self


class SentDecisions(BaseModel):
    """Decisions in the order in which they were made."""

    decisions: list[SentDecision] = Field(max_length=DECISIONS_MAX)


def router(access: Access) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/review")
    def review(request: Request) -> Response:
        wanted = review_queue.read_query(request.query_params)
        mixed = review_queue.is_mixed(wanted)
        return render(request, "review.html", {"wanted": wanted, "orders": filters.ORDER_NAMES, "mixed": mixed})

    @routes.get("/review/queue")
    def queue(request: Request) -> dict[str, Any]:
        page = review_queue.page(GalleryStore(request.app.state.services.database()), request.query_params)
        root = request.scope.get("root_path", "")
        return {
            "records": [_item(record, root) for record in page.records],
            "following": page.following,
            "left": page.left,
            "left_max": COUNT_MAX,
        }

    @routes.post("/decisions", dependencies=access.to_change)
    def decide(request: Request, sent: SentDecisions) -> dict[str, Any]:
        if not sent.decisions:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "There is no decision in the request.")
        return {"decisions": [_decided(request.app.state.services, each, request.state.reviewer) for each in sent.decisions]}

    return routes


def _item(record: JudgedRecord, root: str) -> dict[str, Any]:
    pictures = f"{root}/pictures/{record.record_id}/{record.token}"
    return {
        "record_id": record.record_id,
        "token": record.token,
        "score": record.score,
        "threshold": record.threshold,
        "is_anomaly": record.is_anomaly,
        "label": record.label,
        "detector": record.detector,
        "image_at": record.image_at,
        "review": record.review,
        "reviewed_by": record.reviewed_by,
        "image": f"{pictures}/image",
        "heatmap": f"{pictures}/heatmap" if record.has_heatmap else None,
        "page": f"{root}/records/{record.record_id}",
        "context": f"{root}/records/{record.record_id}/context?token={record.token}",
    }


def _decided(services: Services, sent: SentDecision, reviewer: str) -> dict[str, Any]:
    decision = Decision(**sent.model_dump())
    database = with_write_back(services.database(), sources(services.settings))
    state = ReviewStore(database).decide(decision, reviewer=reviewer)
    if state is None:
        return {"id": sent.id, "record_id": sent.record_id, "written": False}
    return {
        "id": sent.id,
        "record_id": sent.record_id,
        "written": True,
        "review": state.review,
        "reviewed_by": state.reviewed_by,
        "reviewed_at": state.reviewed_at,
        "decisions": state.decisions,
    }
