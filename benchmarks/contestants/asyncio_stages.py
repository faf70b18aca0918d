"""A careful asyncio program: aiohttp, asyncpg, overlapping stages, bounded queues; no lease, throttle or retry.

The contestants that use it bring their own S3 client.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import asyncpg

from benchmarks.job import TIMEOUT_S
from benchmarks.statements import sql

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from benchmarks.job import Job

FETCHERS = 16
S3_CONNECTIONS = 50
DB_CONNECTIONS = 10
CLAIM = 250


class Bucket(Protocol):
    async def put(self, key: str, body: bytes, sha256: str, content_type: str) -> None:
        """Write the object unless it exists."""


@dataclass(slots=True)
class Fetched:
    record_id: int
    content: bytes
    sha256: str
    kept: asyncio.Task[str]


class Script:
    def __init__(
        self,
        job: Job,
        bucket: Bucket,
        database: asyncpg.Pool[Any],
        images: aiohttp.ClientSession,
        detector: aiohttp.ClientSession,
    ) -> None:
        self._detect_url = f"{job.detector_url}/v1/detect"
        self._database = database
        self._images = images
        self._detector = detector
        self._bucket = bucket
        self._due: asyncio.Queue[tuple[int, str]] = asyncio.Queue(CLAIM)
        self._fetched: asyncio.Queue[Fetched] = asyncio.Queue(job.slots)
        self._ending = asyncio.Semaphore(2 * job.slots)

    async def run(self, slots: int) -> None:
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._fetch(group)) for _ in range(FETCHERS)]
            workers += [group.create_task(self._detect(group)) for _ in range(slots)]
            async with asyncio.TaskGroup() as claiming:
                claiming.create_task(self._claim())
            await self._due.join()
            await self._fetched.join()
            for worker in workers:
                worker.cancel()

    async def _claim(self) -> None:
        while rows := await self._database.fetch(sql("asyncio_claim"), CLAIM):
            for row in rows:
                await self._due.put((row["id"], row["image_url"]))

    async def _fetch(self, group: asyncio.TaskGroup) -> None:
        while True:
            record_id, url = await self._due.get()
            async with self._images.get(url) as answer:
                content = await answer.read()
            sha256 = hashlib.sha256(content).hexdigest()
            kept = group.create_task(self._keep(f"images/{sha256}.jpg", content, sha256, "image/jpeg"))
            await self._fetched.put(Fetched(record_id, content, sha256, kept))
            self._due.task_done()

    async def _keep(self, key: str, body: bytes, sha256: str, content_type: str) -> str:
        await self._bucket.put(key, body, sha256, content_type)
        return key

    async def _detect(self, group: asyncio.TaskGroup) -> None:
        while True:
            fetched = await self._fetched.get()
            began = time.monotonic()
            async with self._detector.post(self._detect_url, data=fetched.content, headers={"Content-Type": "image/jpeg"}) as answer:
                raw = await answer.read()
            latency_ms = (time.monotonic() - began) * 1000
            await self._ending.acquire()
            group.create_task(self._end(fetched, raw, latency_ms))
            self._fetched.task_done()

    async def _end(self, fetched: Fetched, raw: bytes, latency_ms: float) -> None:
        try:
            answer_key = await self._keep(f"answers/{fetched.record_id}.json", raw, hashlib.sha256(raw).hexdigest(), "application/json")
            await self._database.execute(sql("asyncio_commit"), *_params(fetched, raw, await fetched.kept, answer_key), latency_ms)
        finally:
            self._ending.release()


def _params(fetched: Fetched, raw: bytes, image_key: str, answer_key: str) -> tuple[Any, ...]:
    verdict = json.loads(raw)
    detector = "{name}@{version}".format(**verdict["model"])
    verdict_columns = verdict["score"], verdict["threshold"], verdict["is_anomaly"], verdict["label"], json.dumps(verdict["regions"])
    return fetched.record_id, fetched.sha256, detector, *verdict_columns, image_key, answer_key


def work(job: Job, bucket: Callable[[Job], AbstractAsyncContextManager[Bucket]]) -> None:
    """Process all records."""
    asyncio.run(_work(job, bucket))


async def _work(job: Job, bucket: Callable[[Job], AbstractAsyncContextManager[Bucket]]) -> None:
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(bucket(job))
        database = await stack.enter_async_context(asyncpg.create_pool(job.dsn, min_size=2, max_size=DB_CONNECTIONS, reset=_no_reset))
        images, detector = [await stack.enter_async_context(session(limit)) for limit in (FETCHERS, job.slots)]
        await Script(job, opened, database, images, detector).run(job.slots)


def session(connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), auto_decompress=False
    )


async def _no_reset(_connection: Any) -> None:
    """Skip the reset of a released connection, which has no state, to save the round trip."""
