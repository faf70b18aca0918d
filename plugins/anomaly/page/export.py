"""Downloads of what the gallery shows, with the filter in its address."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import StreamingResponse

from anomaly.db.export import STATUSES, ExportFilter, ExportStore
from anomaly.export.formats import FORMATS
from anomaly.page import filters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

    from anomaly.page.access import Access
    from anomaly.page.services import Services

AT_ONCE = 2
"""Exports that one process works at the same time. The others wait for their next block meanwhile."""


def router(_: Access) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()
    limiter = anyio.CapacityLimiter(AT_ONCE)

    @routes.get("/export")
    async def export(request: Request) -> Response:
        chosen = _chosen(request)
        written = FORMATS.get(request.query_params.get("format", ""))
        if written is None or not written.is_available:
            available = [name for name, each in FORMATS.items() if each.is_available]
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"There is no such format here; there are {', '.join(available)}.")

        def begin() -> tuple[Generator[bytes], bytes]:
            services: Services = request.app.state.services
            blocks = written.blocks(ExportStore(services.database()).rows(chosen), services.archive)
            return blocks, next(blocks, b"")

        blocks, first = await anyio.to_thread.run_sync(begin, limiter=limiter)  # fails before the answer has begun
        name = f"anomalies-{datetime.now(UTC):%Y-%m-%d}.{written.suffix}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Security-Policy": "sandbox; default-src 'none'"}
        return StreamingResponse(_streamed(blocks, first, limiter), media_type=written.media_type, headers=headers)

    return routes


def _chosen(request: Request) -> ExportFilter:
    """Read the filter of the gallery.

    Raises:
        HTTPException: a part makes no sense, so that more would be exported than was asked for.
    """
    wanted = filters.read_list_query(request.query_params)
    if wanted.problems:
        raise HTTPException(HTTPStatus.BAD_REQUEST, " ".join(wanted.problems))
    if wanted.state == "judged":
        return ExportFilter(judged=wanted.chosen)
    return ExportFilter(statuses=tuple(status for status in STATUSES if status == wanted.state))


async def _streamed(blocks: Generator[bytes], first: bytes, limiter: anyio.CapacityLimiter) -> AsyncIterator[bytes]:
    """Yield the blocks of an export. When the client goes away, the statement in work is the last one."""
    try:
        block: bytes | None = first
        while block is not None:
            yield block
            block = await anyio.to_thread.run_sync(next, blocks, None, limiter=limiter)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(blocks.close, limiter=limiter)
