"""The application: routes, headers of every answer, and errors as pages."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from anomaly.errors import AnomalyError, DatabaseUnavailable, DetectorAnswerInvalid
from anomaly.page import context, export, gallery, overview, record, review, run, score_again, static, threshold, views
from anomaly.page.rendering import render
from anomaly.page.services import Services

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import Request, Response

    from anomaly.page.access import Access

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Airflow runs in the same origin, so a script in one of our pages would act as the user there. An answer may set its own values."""
SENTENCES = {
    HTTPStatus.UNAUTHORIZED: "Your session has ended. Log in to Airflow again, then reload this page.",
    HTTPStatus.FORBIDDEN: "You may not do this. Ask an administrator for access to the DAG anomaly_detection.",
    HTTPStatus.NOT_FOUND: "There is no such page.",
    HTTPStatus.METHOD_NOT_ALLOWED: "There is no such page.",
}


def create_app(access: Access, services: Services | None = None) -> FastAPI:
    """Return the application. It opens no connection before a page needs one."""
    app = FastAPI(title="anomaly", openapi_url=None, docs_url=None, redoc_url=None, dependencies=access.to_read)
    app.state.services = services or Services()
    app.middleware("http")(_with_headers)
    app.add_exception_handler(AnomalyError, _on_error)
    app.add_exception_handler(StarletteHTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    for routes in (static, overview, gallery, export, context, record, review, run, score_again, views, threshold):
        app.include_router(routes.router(access))
    return app


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _on_error(request: Request, exc: Any) -> Response:
    """Show an error of the project as its sentence."""
    if isinstance(exc, DetectorAnswerInvalid):  # a value of the request that no column can hold
        return _error_page(request, HTTPStatus.BAD_REQUEST, "The address of this page has a value that cannot be looked up.")
    log.warning("page not shown path=%s error=%s", request.url.path, exc)
    request.app.state.services.reset()
    hint = "" if isinstance(exc, DatabaseUnavailable) else "`anomaly doctor` checks the connections and prints how to fix them."
    return _error_page(request, HTTPStatus.SERVICE_UNAVAILABLE, str(exc), hint)


def _on_http_error(request: Request, exc: Any) -> Response:
    usual = exc.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or exc.detail == HTTPStatus(exc.status_code).phrase
    response = _error_page(request, exc.status_code, SENTENCES.get(exc.status_code, exc.detail) if usual else exc.detail)
    response.headers.update(exc.headers or {})
    return response


def _on_invalid_request(request: Request, exc: Any) -> Response:
    found = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in exc.errors()[:3])
    return _error_page(request, HTTPStatus.BAD_REQUEST, f"The request does not make sense: {found}")


def _error_page(request: Request, status: int, sentence: str, hint: str = "") -> Response:
    return render(request, "error.html", {"title": HTTPStatus(status).phrase, "sentence": sentence, "hint": hint}, status=status)
