"""asyncio without an S3 client: botocore signs each put, aiohttp sends it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from benchmarks.contestants import asyncio_stages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from benchmarks.job import Job


class _Signer(S3SigV4Auth):
    """Uses the known digest of the body, which is also in the key of an image."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["sha256"])


class Bucket:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._signer = _Signer(Credentials("bench", "bench"), "s3", "us-east-1")

    async def put(self, key: str, body: bytes, sha256: str, content_type: str) -> None:
        url = f"{self._url}/{key}"
        request = AWSRequest("PUT", url, headers={"Content-Type": content_type, "If-None-Match": "*"})
        request.context["sha256"] = sha256
        self._signer.add_auth(request)
        async with self._session.put(url, data=body, headers=dict(request.headers)) as answer:
            if answer.status not in {200, 412}:
                raise RuntimeError(f"S3 answered {answer.status}")


@asynccontextmanager
async def _bucket(job: Job) -> AsyncIterator[Bucket]:
    async with asyncio_stages.session(asyncio_stages.S3_CONNECTIONS) as session:
        yield Bucket(session, f"{job.s3_url}/{job.bucket}")


def work(job: Job) -> None:
    asyncio_stages.work(job, _bucket)
