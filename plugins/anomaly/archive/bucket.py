"""Store images, answers and heat maps under keys that follow from their content, so that writing twice is writing once.

images/sha256/ab/<sha256>.<ext>
answers/<config>/ab/<image sha256>[-<batch>].json
heatmaps/<config>/ab/<image sha256>[-<batch>].png
unreadable/<config>/ab/<image sha256>.<json or bin>
runs/<run id>/report.json
"""

from __future__ import annotations

import hashlib
import re
import threading
from base64 import b64encode
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from anomaly.archive.client import prepare
from anomaly.archive.encryption import Encryption
from anomaly.archive.errors import ABSENT, EXISTS, FOREIGN, RACED, code_of, translated
from anomaly.errors import ArchiveUnavailable, Misconfigured
from anomaly.models.objects import StoredObject, is_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from mypy_boto3_s3 import S3Client

    from anomaly.archive.obstore_puts import ObstorePuts
    from anomaly.models.records import Image

RACES_MAX = 3
"""Tries of a put that conflicts with another writer. A conflict does not mean that the object exists by now."""
EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif", "image/bmp": "bmp", "image/tiff": "tif"}
REASON_CHARS = 500
"""S3 allows 2 KB of metadata for an object."""


class Archive:
    """A bucket below a prefix. For many threads. With *puts*, most objects are created by obstore instead of the client.

    Every method raises ArchiveUnavailable for a failure that may pass, after botocore's retries, and Misconfigured for one
    that lasts until a person has changed something.
    """

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        prefix: str = "",
        *,
        encryption: Encryption | None = None,
        puts: ObstorePuts | None = None,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._puts = puts
        self._encryption = (encryption or Encryption()).client_options
        prepare(client, on_retry=on_retry)
        self._bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._folders: set[str] = set()
        self._lock = threading.Lock()

    def put_image(self, image: Image) -> str:
        """Store an image; return its key."""
        key = f"{self.prefix}images/sha256/{image.sha256[:2]}/{image.sha256}.{EXTENSIONS.get(image.media_type, 'bin')}"
        self._put_once(key, image.content, image.media_type, bytes.fromhex(image.sha256))
        return key

    def put_answer(self, config: str, image_sha256: str, raw: bytes, *, batch: str | None) -> str:
        """Store an answer unless there is an earlier one, which then stays; return its key."""
        key = self._key("answers", config, image_sha256, batch, "json")
        self._put_once(key, raw, "application/json")
        return key

    def find_answer(self, config: str, image_sha256: str, *, batch: str | None) -> bytes | None:
        """Return the stored answer, if there is one."""
        return self.read(self._key("answers", config, image_sha256, batch, "json"))

    def read(self, key: str) -> bytes | None:
        """Return the object under a key; None if it no longer exists."""
        with self._translated("read"):
            try:
                return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            except ClientError as exc:
                if code_of(exc) in ABSENT:
                    return None
                raise

    def put_heatmap(self, config: str, image_sha256: str, png: bytes, *, batch: str | None) -> str:
        """Store a heat map; return its key."""
        key = self._key("heatmaps", config, image_sha256, batch, "png")
        self._put_once(key, png, "image/png")
        return key

    def put_unreadable(self, config: str, image_sha256: str, raw: bytes, *, reason: str) -> str:
        """Store an unreadable answer in place of an earlier one, with the reason in its metadata; return its key."""
        key = self._key("unreadable", config, image_sha256, None, "json" if is_json(raw) else "bin")
        metadata = {"reason": ascii(reason)[1:-1][:REASON_CHARS]}
        with self._translated("write"):
            self._put(key, raw, Metadata=metadata)
        return key

    def begin_run(self, run_id: str) -> None:
        """Create the run's folder unless it exists. A process looks for it once."""
        key = self._run_key(run_id, "")
        with self._lock:
            if key in self._folders:
                return
            if not self._exists(key):
                self._put_once(key, b"", "application/x-directory")
            self._folders.add(key)

    def put_report(self, run_id: str, body: bytes) -> str:
        """Store a run's report in place of an earlier one; return its key."""
        key = self._run_key(run_id, "report.json")
        with self._translated("write"):
            self._put(key, body, ContentType="application/json")
        return key

    def check(self) -> None:
        """Raise unless the bucket exists and can be written."""
        self.clock()
        with self._translated("write"):
            self._put(f"{self.prefix}.writable", b"")

    # ── for maintenance

    def pages(self, folder: str) -> Iterator[list[StoredObject]]:
        """Yield all objects below *folder* in the order of their keys, one page of a listing at a time."""
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
        """Delete these objects, at most 1,000; those that do not exist are ignored."""
        with self._translated("delete from"):
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
            for refused in answer.get("Errors", []):
                raise ClientError({"Error": {"Code": refused.get("Code", "unknown")}}, "DeleteObjects")

    def clock(self) -> datetime | None:
        """Return the server's time, to the second; None if it sends no date that can be read."""
        with self._translated("read"):
            try:
                head: Any = self._client.head_bucket(Bucket=self._bucket)
            except ClientError as exc:  # a HEAD has no body, so a put explains any other error better
                if code_of(exc) in ABSENT:  # some servers would create the bucket by a put
                    raise Misconfigured(f"there is no such bucket: {self._bucket!r}") from exc
                head = exc.response
        with suppress(KeyError, ValueError):
            return parsedate_to_datetime(head["ResponseMetadata"]["HTTPHeaders"]["date"])
        return None

    def _key(self, kind: str, config: str, image_sha256: str, batch: str | None, extension: str) -> str:
        return f"{self.prefix}{kind}/{config}/{image_sha256[:2]}/{image_sha256}{f'-{batch}' if batch else ''}.{extension}"

    def _run_key(self, run_id: str, name: str) -> str:
        """Return a key for a run id, which people choose: unsafe characters are replaced, and a hash keeps such ids apart."""
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

    def _put_once(self, key: str, body: bytes, content_type: str, sha256: bytes | None = None) -> None:
        """Create the object, or find that it exists: ours, or the first one. It takes one request, or few where writers race."""
        if self._puts and self._puts.create(key, body, content_type):
            return
        with self._translated("write"):
            for _ in range(RACES_MAX):
                try:
                    self._put(key, body, sha256, ContentType=content_type, IfNoneMatch="*")
                except ClientError as exc:
                    if code_of(exc) in EXISTS:
                        return
                    if code_of(exc) not in RACED:
                        raise
                else:
                    if self._puts:
                        self._puts.learn(key)
                    return
        raise ArchiveUnavailable(f"cannot write bucket {self._bucket!r}: {RACES_MAX} times, someone else wrote the same object")

    def _put(self, key: str, body: bytes, sha256: bytes | None = None, **options: Any) -> None:
        """Write an object by the client, with a checksum, which a bucket with Object Lock demands."""
        checksum = b64encode(sha256 or hashlib.sha256(body).digest()).decode()
        given = {**self._encryption, **options}
        self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ChecksumSHA256=checksum, **given)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except FOREIGN as exc:
            raise translated(exc, f"cannot {doing} bucket {self._bucket!r}") from exc
