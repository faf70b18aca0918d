"""One process for all that the contestants talk to but Postgres itself; it says its ports, then obeys on its control port.

GET / answers what was counted; POST / takes {"slots", "latency_ms", "round_trip_ms", "requests_per_minute", "postgres_port"} and counts
from zero.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks.http_server import Lag, listener
from benchmarks.images import Photos
from benchmarks.pg_proxy import Line
from benchmarks.services import Bucket, Counted, Detector, ImageHost

if TYPE_CHECKING:
    from benchmarks.http_server import Request, Respond

HOST = "127.0.0.1"
BACKLOG = 1024


class Control(Counted):
    def __init__(self, services: dict[str, Counted | Line], detector: Detector, line: Line, lag: Lag, photos: Photos) -> None:
        super().__init__()
        self._services = services
        self._detector = detector
        self._line = line
        self._lag = lag
        self._photos = photos

    def complete(self, request: Request, respond: Respond) -> None:
        if request.method == "POST":
            self._obey(json.loads(request.body))
        stats = {name: service.stats() for name, service in self._services.items()}
        answer = stats | {"image_bytes": self._photos.size, "processor_s": time.process_time()}
        respond(200, [json.dumps(answer).encode()])

    def _obey(self, order: dict[str, Any]) -> None:
        self._line.port = order["postgres_port"]
        self._lag.round_trip_s = order["round_trip_ms"] / 1000
        self._detector.slots, self._detector.latency_s = order["slots"], order["latency_ms"] / 1000
        self._detector.requests_per_minute = order["requests_per_minute"]
        for service in self._services.values():
            service.reset()


async def serve(image_bytes: int) -> None:
    """Serve until stdin is closed, as it is when whoever started us has gone."""
    loop, lag, photos = asyncio.get_running_loop(), Lag(), Photos(image_bytes)
    detector, line = Detector(loop), Line()
    services: dict[str, Counted | Line] = {"images": ImageHost(photos), "detector": detector, "s3": Bucket(), "postgres": line}
    control = Control(services, detector, line, lag, photos)
    ports = {}
    for name, service in services.items():
        factory = service.listener(lag) if isinstance(service, Line) else listener(service, lag)  # type: ignore[arg-type]
        ports[name] = await _listen(factory)
    ports["control"] = await _listen(listener(control, Lag()))
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)
    await over.wait()


async def _listen(factory: Any) -> int:
    server = await asyncio.get_running_loop().create_server(factory, HOST, 0, backlog=BACKLOG)
    port: int = server.sockets[0].getsockname()[1]
    return port


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
