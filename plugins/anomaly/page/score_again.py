"""Scoring again: the next run asks the detector anew about chosen records. Verdicts and decisions stay until then."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse

from anomaly.db.quarantine import QuarantineStore

if TYPE_CHECKING:
    from anomaly.page.access import Access

RECORDS_MAX = 1000


class ChosenRecords(BaseModel):
    """Records that somebody has selected."""

    record_ids: list[Annotated[int, Field(ge=0, le=2**63 - 1)]] = Field(min_length=1, max_length=RECORDS_MAX)


def router(access: Access) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.post("/records/{record_id}/score-again", dependencies=access.to_change)
    def score_again(request: Request, record_id: Annotated[int, Field(ge=0, le=2**63 - 1)]) -> Response:
        QuarantineStore(request.app.state.services.database()).score_again([record_id], actor=request.state.reviewer)
        return RedirectResponse(f"{request.scope.get('root_path', '')}/records/{record_id}", HTTPStatus.SEE_OTHER)

    @routes.post("/score-again", dependencies=access.to_change)
    def score_all_again(request: Request, chosen: ChosenRecords) -> dict[str, int]:
        store = QuarantineStore(request.app.state.services.database())
        return {"records": store.score_again(chosen.record_ids, actor=request.state.reviewer)}

    return routes
