"""Styles, scripts and pictures of the page itself."""

from __future__ import annotations

import hashlib
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, HTTPException, Response

if TYPE_CHECKING:
    from anomaly.page.access import Access

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@cache
def files() -> dict[str, bytes]:
    """Return the content of each file by its name."""
    return {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in MEDIA_TYPES}


@cache
def version() -> str:
    """Return a digest of all files, which is part of their addresses, so that browsers keep them until they change."""
    return hashlib.sha256(b"\0".join(files().values())).hexdigest()[:12]


def router(_: Access) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix="/static")

    @routes.get("/{found_version}/{name}")
    async def static_file(found_version: str, name: str) -> Response:
        if name not in files():
            raise HTTPException(HTTPStatus.NOT_FOUND)
        lasting = found_version == version()
        headers = {"Cache-Control": "private, max-age=31536000, immutable" if lasting else "no-cache"}
        return Response(files()[name], media_type=MEDIA_TYPES[Path(name).suffix], headers=headers)

    return routes
