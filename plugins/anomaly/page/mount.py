"""The page as Airflow mounts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class PageInAirflow:
    """An ASGI application that is built at its first request: plugins are also loaded by processes that serve no pages."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            from anomaly.page.access import airflow_access  # noqa: PLC0415  # see above
            from anomaly.page.app import create_app  # noqa: PLC0415

            self._app = create_app(airflow_access())
        await self._app(scope, receive, send)
