"""Serves the files of a folder by HTTP: `python -m embedded.image_host --host H --port P --folder F`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.requests import Request


def app(folder: Path) -> Starlette:
    return Starlette(routes=[Route("/readyz", _ready), Mount("/", StaticFiles(directory=folder))])


async def _ready(_: Request) -> PlainTextResponse:
    return PlainTextResponse("ready")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m embedded.image_host", description="Serve the files of a folder.")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    uvicorn.run(app(options.folder), host=options.host, port=options.port, log_level="warning", timeout_keep_alive=30)


if __name__ == "__main__":
    main()
