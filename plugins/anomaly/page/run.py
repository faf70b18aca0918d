"""The page about one run, to which tasks and notifications link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response

from anomaly.db.page_run import RunPageStore
from anomaly.models.runs import batch_id_of
from anomaly.page.access import DAG_ID
from anomaly.page.rendering import render

if TYPE_CHECKING:
    from anomaly.page.access import Access

SIZE = 96
"""Records that are shown."""
ID_MAX = 250
"""Characters of a name in Airflow."""
Id = Annotated[str, Query(max_length=ID_MAX, pattern=r"^[^\x00]*$")]


def router(_: Access) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/run")
    def run(request: Request, run_id: Id, dag_id: Id = DAG_ID) -> Response:
        store = RunPageStore(request.app.state.services.database(), batch_id_of(dag_id, run_id))
        details = store.details()
        values = {
            "dag_id": dag_id,
            "run_id": run_id,
            "run": details,
            "records": store.records(size=SIZE) if details else [],
            "failures": store.failures() if details else [],
            "size": SIZE,
        }
        return render(request, "run.html", values)

    return routes
