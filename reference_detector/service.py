"""The HTTP service of the detector."""

import asyncio
import hashlib
import http
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from threading import Event
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from reference_detector.decoding import Decoder, is_small_png
from reference_detector.detector import NAME, Detector
from reference_detector.errors import DetectorError, ImageTooLarge, MediaTypeUnsupported, NotReady, RequestMalformed
from reference_detector.fitting import Progress
from reference_detector.photo import FORMATS, MAX_PX, read_photo
from reference_detector.queueing import AnswersByKey, BoundedPool
from reference_detector.schemas import Answer, Error, ErrorAnswer, ModelCard

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the service."""

    workers: int = 2
    queue: int = 256
    """Images that may wait for a worker."""
    max_bytes: int = 20 * 1024 * 1024
    max_px: int = MAX_PX
    answers: int = 1024
    """Answers that are kept by Idempotency-Key."""


class Stopped(Exception):
    """Raised to end the fitting when the service stops."""


class Service:
    """Serves requests from the start. Images are judged once *load* has returned a detector."""

    def __init__(self, load: Callable[[Progress], Detector], limits: Limits, *, on_failure: Callable[[], None]) -> None:
        self._load, self._limits, self._on_failure = load, limits, on_failure
        self._detector: Detector | None = None
        self._pool = BoundedPool(workers=limits.workers, queue=limits.queue)
        self._decoder = Decoder(processes=limits.workers + 1)  # one more, so that an expensive image does not stop the others
        self._answers = AnswersByKey[bytes](limits.answers)
        self._stopping = Event()
        self._fit_progress = (0, 0)

    def app(self) -> FastAPI:
        app = FastAPI(title="Reference detector", lifespan=self._lifespan, docs_url=None, redoc_url=None)
        refusals: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in (400, 413, 415, 422, 503)}
        app.add_api_route("/v1/detect", self.detect, methods=["POST"], response_model=Answer, responses=refusals)
        app.add_api_route("/v1/model", self.model, response_model=ModelCard)
        app.add_api_route("/healthz", self.healthz)
        app.add_api_route("/readyz", self.readyz)
        app.add_exception_handler(DetectorError, _refused)
        app.add_exception_handler(RequestValidationError, _malformed)
        app.add_exception_handler(HTTPException, _http_error)
        app.add_exception_handler(ClientDisconnect, _client_disconnected)
        app.add_exception_handler(Exception, _internal_error)
        return app

    async def healthz(self) -> dict[str, str]:
        return {"status": "ok"}

    async def readyz(self) -> dict[str, str]:
        self._ready()
        return {"status": "ready"}

    async def model(self) -> ModelCard:
        detector = self._ready()
        return ModelCard(
            name=NAME,
            version=detector.version,
            fitted_images=detector.fitted_images,
            calibration_images=len(detector.calibration.scores),
            threshold=detector.calibration.threshold,
            formats=list(FORMATS),
            max_bytes=self._limits.max_bytes,
            max_px=self._limits.max_px,
        )

    async def detect(
        self,
        request: Request,
        heatmap: Annotated[bool, Query(description="Whether the answer carries a heat map")] = True,  # noqa: FBT002 - a query's flag
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> Response:
        """Judge the image in the body."""
        content = await self._body(request)
        detector = self._ready()

        async def ask() -> bytes:
            with self._pool.place():
                photo = None if is_small_png(content) else await self._decoder.read(content, max_px=self._limits.max_px)
                answer = await self._pool.run(
                    lambda: detector.detect(photo or read_photo(content, max_px=self._limits.max_px), heatmap=heatmap)
                )
            return answer.model_dump_json(exclude_none=True).encode()

        if idempotency_key is None:
            return _json(200, await ask())
        question = f"{hashlib.sha256(content).hexdigest()} {heatmap}"
        answer, replayed = await self._answers.get(idempotency_key, question, ask)
        return _json(200, answer, _echo(request) | ({"Idempotent-Replayed": "true"} if replayed else {}))

    async def _body(self, request: Request) -> bytes:
        if not request.headers.get("content-type", "").startswith("image/"):
            raise MediaTypeUnsupported("send the image's bytes with a Content-Type of image/…")
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > self._limits.max_bytes:  # uvicorn discards the rest
                raise ImageTooLarge(f"the image has more than {self._limits.max_bytes:,} bytes")
        if not content:
            raise RequestMalformed("the body is empty")
        return bytes(content)

    def _ready(self) -> Detector:
        if self._detector is None:
            raise NotReady("the detector is being fitted: {} of {} images".format(*self._fit_progress))
        return self._detector

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        fitting = asyncio.create_task(self._fit())
        yield
        self._stopping.set()
        await fitting
        self._decoder.close()
        self._pool.close()

    async def _fit(self) -> None:
        try:
            self._detector = await asyncio.to_thread(self._load, self._progress)
        except Stopped:
            log.info("stopped while fitting")
        except Exception:  # whatever it is, the service is of no use without its detector, and its log names it
            log.exception("fitting failed, the service ends")
            self._on_failure()
        else:
            log.info("ready model=%s version=%s threshold=%.2f", NAME, self._detector.version, self._detector.calibration.threshold)

    def _progress(self, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise Stopped
        self._fit_progress = (done, total)
        if done % 100 == 0 or done == total:
            log.info("fitting: %d of %d images", done, total)


def _json(status: int, content: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(content, status, headers, "application/json")


def _echo(request: Request) -> dict[str, str]:
    key = request.headers.get("idempotency-key")
    return {} if key is None else {"Idempotency-Key": key}


def _error(request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    body = ErrorAnswer(error=Error(code=code, message=message)).model_dump_json().encode()
    return _json(status, body, _echo(request) | (headers or {}))


def _refused(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, DetectorError)  # noqa: S101 - the handler is registered for it
    wait = {} if exc.retry_after_s is None else {"Retry-After": str(exc.retry_after_s)}
    return _error(request, exc.status, exc.code, str(exc), wait)


def _malformed(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)  # noqa: S101 - the handler is registered for it
    first = exc.errors()[0]
    return _error(request, 400, RequestMalformed.code, f"{first['loc'][-1]}: {first['msg']}")


def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101 - the handler is registered for it
    status = http.HTTPStatus(exc.status_code)
    return _error(request, status, status.name.lower(), status.phrase, dict(exc.headers or {}))


def _client_disconnected(_request: Request, _exc: Exception) -> Response:
    return Response(status_code=400)  # the client is gone


def _internal_error(request: Request, _exc: Exception) -> Response:
    return _error(request, 500, DetectorError.code, "the detector failed; its log says why")
