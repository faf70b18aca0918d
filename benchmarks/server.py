"""The server process: image host, detector, bucket, and proxy to Postgres. It prints its ports, and is controlled on one of them.

GET / returns the counters; POST / takes {"slots", "latency_ms", "round_trip_ms", "requests_per_minute", "postgres_port"} and resets
the counters.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks.http_server import RoundTrip, listener
from benchmarks.images import Photos
from benchmarks.pg_proxy import PostgresProxy
from benchmarks.services import Bucket, CountingService, Detector, ImageHost

if TYPE_CHECKING:
    from benchmarks.http_server import Request, Respond

HOST = "127.0.0.1"
BACKLOG = 1024
Services = dict[str, CountingService | PostgresProxy]


class Control(CountingService):
    def __init__(
        self,
        services: Services,
        detector: Detector,
        proxy: PostgresProxy,
        round_trip: RoundTrip,
        photos: Photos,
    ) -> None:
        super().__init__()
        self._services = services
        self._detector = detector
        self._proxy = proxy
        self._round_trip = round_trip
        self._photos = photos

    def complete(self, request: Request, respond: Respond) -> None:
        if request.method == "POST":
            self._configure(json.loads(request.body))
        stats = {name: service.stats() for name, service in self._services.items()}
        answer = stats | {"image_bytes": self._photos.size, "processor_s": time.process_time()}
        respond(200, [json.dumps(answer).encode()])

    def _configure(self, order: dict[str, Any]) -> None:
        self._proxy.port = order["postgres_port"]
        self._round_trip.seconds = order["round_trip_ms"] / 1000
        self._detector.slots, self._detector.latency_s = order["slots"], order["latency_ms"] / 1000
        self._detector.requests_per_minute = order["requests_per_minute"]
        for service in self._services.values():
            service.reset()


async def serve(image_bytes: int) -> None:
    """Serve until stdin is closed, which also happens when the parent process ends."""
    loop, round_trip, photos = asyncio.get_running_loop(), RoundTrip(), Photos(image_bytes)
    detector, proxy = Detector(loop), PostgresProxy()
    services: Services = {
        "images": ImageHost(photos),
        "detector": detector,
        "s3": Bucket(),
        "postgres": proxy,
    }
    control = Control(services, detector, proxy, round_trip, photos)
    ports = {}
    for name, service in services.items():
        factory = service.listener(round_trip) if isinstance(service, PostgresProxy) else listener(service, round_trip)  # type: ignore[arg-type]
        ports[name] = await _listen(factory)
    ports["control"] = await _listen(listener(control, RoundTrip()))
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
