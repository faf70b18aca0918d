"""The bucket: images, answers and heat maps under keys that follow from their content, so that writing twice is writing once.

images/sha256/ab/<sha256>.<ext>
answers/<config>/ab/<image sha256>[-<batch>].json
heatmaps/<config>/ab/<image sha256>[-<batch>].png
runs/<run id>/report.json
"""

from __future__ import annotations

import hashlib
import re
import threading
from base64 import b64encode
from contextlib import contextmanager, nullcontext
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from botocore.handlers import add_expect_header

from anomaly.archive.errors import ABSENT, FOREIGN, RACED, THERE, code_of, translated
from anomaly.errors import ArchiveUnavailable, Misconfigured
from anomaly.models.objects import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from mypy_boto3_s3 import S3Client

    from anomaly.archive.straight_puts import StraightPuts
    from anomaly.models.records import Image
    from anomaly.settings import Settings

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
RACES_MAX = 3
"""A conflict means that someone writes the same object now, not that it is there by now: so it is tried again."""
EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif", "image/bmp": "bmp", "image/tiff": "tif"}
USER_AGENT = "anomaly"
_WRITTEN = frozenset({200, 412})
"""By this put, or by an earlier one."""


def client_config(settings: Settings, *, endpoint_url: str | None = None) -> dict[str, Any]:
    """Keyword arguments of botocore's Config.

    `total_max_attempts` counts the first try, which `max_attempts` of a Config does not. Checksums that S3 does not
    demand are left to us: botocore's own would come as trailers, which not every S3 understands. A server that is not
    AWS is addressed by path, as its host name rarely has one subdomain a bucket.
    """
    return {
        "retries": {"mode": "adaptive", "total_max_attempts": settings.s3_attempts},
        "max_pool_connections": settings.s3_pool,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "tcp_keepalive": True,
        "parameter_validation": False,  # ours never change; what is wrong with one, the server says
        "user_agent": USER_AGENT,  # botocore's own is put together anew for every request
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        **({"s3": {"addressing_style": "path"}} if endpoint_url else {}),
    }


class Archive:
    """One bucket below one prefix; for many threads. With *straight*, most puts go past the client.

    Every method raises ArchiveUnavailable when the bucket did not do it for now, after botocore's retries, and
    Misconfigured when it will not until a person has changed something.
    """

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        prefix: str = "",
        *,
        straight: StraightPuts | None = None,
        retried: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._straight = straight
        # botocore asks after each try of a request, whether it went well or not.
        client.meta.events.register("needs-retry.s3", lambda attempts, **_: retried() if attempts > 1 else None)
        # With Expect, each write would wait for an answer before its body and one after it, and read the first byte by byte.
        client.meta.events.unregister("before-call.s3", add_expect_header)
        self._bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._begun: set[str] = set()
        self._lock = threading.Lock()

    def put_image(self, image: Image) -> str:
        """The image is there afterwards; returns its key."""
        key = f"{self.prefix}images/sha256/{image.sha256[:2]}/{image.sha256}.{EXTENSIONS.get(image.media_type, 'bin')}"
        self._put_once(key, image.content, image.media_type, bytes.fromhex(image.sha256))
        return key

    def put_answer(self, config: str, image_sha256: str, raw: bytes, *, batch: str | None) -> str:
        """An answer is there afterwards: this one, or the one that was there before; returns its key."""
        key = self._key("answers", config, image_sha256, batch, "json")
        self._put_once(key, raw, "application/json", hashlib.sha256(raw).digest())
        return key

    def find_answer(self, config: str, image_sha256: str, *, batch: str | None) -> bytes | None:
        """The answer that is there, if one is."""
        return self.read_answer(self._key("answers", config, image_sha256, batch, "json"))

    def read_answer(self, key: str) -> bytes | None:
        """The answer under the key of an earlier result; None when it is there no longer."""
        with self._translated("read"):
            try:
                return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            except ClientError as exc:
                if code_of(exc) in ABSENT:
                    return None
                raise

    def put_heatmap(self, config: str, image_sha256: str, png: bytes, *, batch: str | None) -> str:
        """A heat map is there afterwards; returns its key."""
        key = self._key("heatmaps", config, image_sha256, batch, "png")
        self._put_once(key, png, "image/png", hashlib.sha256(png).digest())
        return key

    def begin_run(self, run_id: str) -> None:
        """The run's folder exists afterwards. This process asks for it once."""
        key = self._run_key(run_id, "")
        with self._lock:
            if key in self._begun:
                return
            if not self._exists(key):
                self._put_once(key, b"", "application/x-directory", hashlib.sha256(b"").digest())
            self._begun.add(key)

    def put_report(self, run_id: str, body: bytes) -> str:
        """This report is there afterwards, in place of an earlier one; returns its key."""
        key = self._run_key(run_id, "report.json")
        with self._translated("write"):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json")
        return key

    def check(self) -> None:
        """The bucket is there and can be written."""
        self.clock()
        with self._translated("write"):
            self._client.put_object(Bucket=self._bucket, Key=f"{self.prefix}.writable", Body=b"")

    # ── for upkeep

    def pages(self, folder: str) -> Iterator[list[StoredObject]]:
        """All objects below *folder*, in the order of their keys, a page of a listing at a time."""
        more, after = True, ""
        while more:
            with self._translated("list"):
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=f"{self.prefix}{folder}/", StartAfter=after)
            found = [
                StoredObject(key=each["Key"], written_at=each["LastModified"], size_bytes=each["Size"]) for each in page.get("Contents", [])
            ]
            if found:
                yield found
                after = found[-1].key
            more = bool(found) and page["IsTruncated"]

    def delete(self, keys: Sequence[str]) -> None:
        """These objects, at most 1,000, are gone afterwards, whether they were there or not."""
        with self._translated("delete from"):
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
            for refused in answer.get("Errors", []):
                raise ClientError({"Error": {"Code": refused.get("Code", "unknown")}}, "DeleteObjects")

    def clock(self) -> datetime | None:
        """What time it is at the bucket, to the second; None where it does not say."""
        with self._translated("read"):
            try:
                head: Any = self._client.head_bucket(Bucket=self._bucket)
            except ClientError as exc:  # it has no body, so anything but this is told better by a put
                if code_of(exc) in ABSENT:  # and by a put some servers would make the bucket
                    raise Misconfigured(f"there is no such bucket: {self._bucket!r}") from exc
                head = exc.response
        date = head["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        return parsedate_to_datetime(date) if date else None

    def _key(self, kind: str, config: str, image_sha256: str, batch: str | None, extension: str) -> str:
        return f"{self.prefix}{kind}/{config}/{image_sha256[:2]}/{image_sha256}{f'-{batch}' if batch else ''}.{extension}"

    def _run_key(self, run_id: str, name: str) -> str:
        """Run ids come from people: what is odd in one is replaced, and a hash keeps the different ones apart."""
        safe = re.sub(r"[^A-Za-z0-9_.:+=-]", "_", run_id).strip(".")[:200]
        if safe != run_id or not safe:
            safe = f"{safe}-{hashlib.sha256(run_id.encode()).hexdigest()[:12]}"
        return f"{self.prefix}runs/{safe}/{name}"

    def _exists(self, key: str) -> bool:
        with self._translated("read"):
            try:
                self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as exc:
                if code_of(exc) in ABSENT:
                    return False
                raise
            return True

    def _put_once(self, key: str, body: bytes, content_type: str, sha256: bytes) -> None:
        """By its end an object is there: ours, or the first one. It takes one request, or few where writers race."""
        checksum = b64encode(sha256).decode()
        with self._translated("write"), self._straight.looking() if self._straight else nullcontext():
            if self._put_straight(key, body, content_type, checksum, sha256):
                return
            for _ in range(RACES_MAX):
                try:
                    self._client.put_object(
                        Bucket=self._bucket,
                        Key=key,
                        Body=body,
                        ContentType=content_type,
                        ChecksumSHA256=checksum,
                        IfNoneMatch="*",
                    )
                except ClientError as exc:
                    if code_of(exc) in THERE:
                        return
                    if code_of(exc) not in RACED:
                        raise
                else:
                    if self._straight:
                        self._straight.learn(key)
                    return
        raise ArchiveUnavailable(f"cannot write bucket {self._bucket!r}: {RACES_MAX} times, someone else wrote the same object")

    def _put_straight(self, key: str, body: bytes, content_type: str, checksum: str, sha256: bytes) -> bool:
        """The same past the client; whether the object is there for certain."""
        if self._straight is None:
            return False
        headers = {"Content-Type": content_type, "If-None-Match": "*", "X-Amz-Checksum-Sha256": checksum, "User-Agent": USER_AGENT}
        status = self._straight.put(key, body, headers=headers, sha256=sha256)
        if status is not None and status not in _WRITTEN:
            self._straight.rest()
        return status in _WRITTEN

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except FOREIGN as exc:
            raise translated(exc, f"cannot {doing} bucket {self._bucket!r}") from exc
