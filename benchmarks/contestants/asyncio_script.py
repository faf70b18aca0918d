"""asyncio with aiobotocore's client, without parameter checks and Expect, and with checksums only where S3 requires them."""

from __future__ import annotations

from base64 import b64encode
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError
from botocore.handlers import add_expect_header

from benchmarks.contestants import asyncio_stages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.job import Job


class Bucket:
    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    async def put(self, key: str, body: bytes, sha256: str, content_type: str) -> None:
        checksum = b64encode(bytes.fromhex(sha256)).decode()
        try:
            await self._client.put_object(
                Bucket=self._name, Key=key, Body=body, ContentType=content_type, ChecksumSHA256=checksum, IfNoneMatch="*"
            )
        except ClientError as exc:
            if exc.response["Error"]["Code"] != "PreconditionFailed":
                raise


@asynccontextmanager
async def _bucket(job: Job) -> AsyncIterator[Bucket]:
    config = AioConfig(
        max_pool_connections=asyncio_stages.S3_CONNECTIONS,
        parameter_validation=False,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    async with get_session().create_client(
        "s3",
        endpoint_url=job.s3_url,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",  # noqa: S106  # nobody checks it
        config=config,
    ) as client:
        client.meta.events.unregister("before-call.s3", add_expect_header)
        yield Bucket(client, job.bucket)


def work(job: Job) -> None:
    asyncio_stages.work(job, _bucket)
