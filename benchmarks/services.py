"""The image host, the detector and the bucket of the benchmarks, with their counters."""

from __future__ import annotations

import json
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from benchmarks.images import Photos, number_of, score_of

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from benchmarks.http_server import Request, Respond

ANOMALOUS_FROM = 0.9


class CountingService:
    """Counts connections and requests."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.connections = 0
        self.requests: Counter[str] = Counter()

    def stats(self) -> dict[str, Any]:
        return {"connections": self.connections, "requests": dict(self.requests)}

    def connected(self) -> None:
        self.connections += 1

    def begun(self, request: Request) -> None:
        self.requests[request.method] += 1

    def gone(self, request: Request) -> None:
        """Called when the client disconnects before the response."""


class ImageHost(CountingService):
    """GET /<number>."""

    def __init__(self, photos: Photos) -> None:
        super().__init__()
        self._photos = photos

    def complete(self, request: Request, respond: Respond) -> None:
        respond(200, self._photos.pieces(int(request.target.rpartition("/")[2])), b"image/jpeg")


class Detector(CountingService):
    """Answers the POST of an image. A request holds a slot for the latency; further requests wait in order.

    With a quota, a token bucket that holds one second's tokens, further requests are answered 429.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self.slots, self.latency_s, self.requests_per_minute = 1, 0.2, 0.0
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self._busy = 0
        self._waiting: deque[tuple[Request, Respond]] = deque()
        self._in_flight: set[Request] = set()
        self._in_flight_max = 0
        self._first_at = self._last_at = 0.0
        self._busy_s = 0.0
        self._throttled = 0
        self._granted, self._granted_at = 0.0, float("-inf")

    def stats(self) -> dict[str, Any]:
        wall_s = self._last_at - self._first_at
        used = self._busy_s / (self.slots * wall_s) if wall_s else 0.0
        return super().stats() | {"utilisation": used, "in_flight_max": self._in_flight_max, "wall_s": wall_s, "throttled": self._throttled}

    def begun(self, request: Request) -> None:
        super().begun(request)
        self._first_at = self._first_at or self._loop.time()
        self._in_flight.add(request)
        self._in_flight_max = max(self._in_flight_max, len(self._in_flight))

    def gone(self, request: Request) -> None:
        self._in_flight.discard(request)

    def _grants(self) -> bool:
        per_s, now = self.requests_per_minute / 60, self._loop.time()
        self._granted = min(per_s, self._granted + per_s * (now - self._granted_at))
        self._granted_at = now
        if self._granted < 1:
            return False
        self._granted -= 1
        return True

    def complete(self, request: Request, respond: Respond) -> None:
        if self.requests_per_minute and not self._grants():
            self._throttled += 1
            self.gone(request)
            respond(429, [b'{"error": {"code": "rate_limit_exceeded"}}'])
        elif self._busy < self.slots:
            self._start(request, respond)
        else:
            self._waiting.append((request, respond))

    def _start(self, request: Request, respond: Respond) -> None:
        self._busy += 1
        self._loop.call_later(self.latency_s, self._end, request, respond, self._loop.time())

    def _end(self, request: Request, respond: Respond, started_at: float) -> None:
        self._last_at = self._loop.time()
        self._busy_s += self._last_at - started_at
        self._busy -= 1
        if request in self._in_flight:
            self._in_flight.discard(request)
            respond(200, [answer_to(number_of(request.body))])
        if self._waiting:
            self._start(*self._waiting.popleft())


def answer_to(number: int) -> bytes:
    """Return the answer for the image with this number."""
    score = score_of(number)
    is_anomaly = score >= ANOMALOUS_FROM
    return json.dumps(
        {
            "score": score,
            "threshold": ANOMALOUS_FROM,
            "is_anomaly": is_anomaly,
            "label": "anomalous" if is_anomaly else "normal",
            "regions": [{"x": 1, "y": 2, "width": 30, "height": 40, "score": score}] if is_anomaly else [],
            "model": {"name": "bench", "version": "1"},
            "usage": {"images": 1},
        }
    ).encode()


class Bucket(CountingService):
    """The part of S3 that the job uses: PUT with and without If-None-Match, GET and HEAD. Signatures are not checked."""

    def reset(self) -> None:
        super().reset()
        self._objects: dict[str, bytes] = {}
        self._sizes: dict[str, int] = {}

    def stats(self) -> dict[str, Any]:
        """Return the counters, with the number and bytes of objects by the first folder of their keys."""
        objects: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for key, size in self._sizes.items():
            folder = key.split("/")[2]
            objects[folder] += 1
            sizes[folder] += size
        return super().stats() | {"objects": dict(objects), "bytes": dict(sizes)}

    def complete(self, request: Request, respond: Respond) -> None:
        key = request.target.partition("?")[0]
        match request.method:
            case "PUT":
                self._put(key, request, respond)
            case "HEAD" if key.strip("/").count("/") == 0:
                respond(200)
            case "HEAD" | "GET" if key in self._sizes:
                respond(200, [self._objects[key]])
            case "HEAD" | "GET":
                respond(404, [_error("NoSuchKey")], b"application/xml")
            case _:
                respond(501, [_error("NotImplemented")], b"application/xml")

    def _put(self, key: str, request: Request, respond: Respond) -> None:
        if key in self._sizes and request.has(b"\r\nif-none-match: *"):
            respond(412, [_error("PreconditionFailed")], b"application/xml")
            return
        self._sizes[key] = request.length
        self._objects[key] = bytes(request.body) if len(request.body) == request.length else b""
        respond(200)


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code></Error>".encode()
