"""Buckets that demand checksums (Object Lock) or encryption of each put. SeaweedFS enforces a policy; the stub shows the requests."""

from __future__ import annotations

import hashlib
import json
import uuid
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from anomaly.archive.bucket import Archive
from anomaly.archive.client import client_config
from anomaly.archive.encryption import Encryption
from anomaly.archive.obstore_puts import ObstorePuts
from anomaly.errors import AnomalyError, ArchiveUnavailable, Misconfigured
from anomaly.models.records import Image
from anomaly.settings import Settings
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from embedded.s3 import S3
    from tests.parts.http_stub import Seen

CONFIG = "c" * 64
KMS = Encryption("aws:kms", "arn:aws:kms:eu-north-1:123456789012:key/a-key")


def sha256_of(number: int) -> str:
    return f"{number:064x}"


def put_image(archive: Archive, number: int) -> str:
    content = f"image {number}".encode()
    digest = hashlib.sha256(content).hexdigest()
    return archive.put_image(Image(content=content, sha256=digest, media_type="image/png", width_px=1, height_px=1))


PUTS: dict[str, Callable[[Archive, int], Any]] = {
    "check": lambda archive, _: archive.check(),
    "put_image": put_image,
    "put_answer": lambda archive, number: archive.put_answer(CONFIG, sha256_of(number), b"{}", batch=None),
    "put_heatmap": lambda archive, number: archive.put_heatmap(CONFIG, sha256_of(number), b"png", batch=None),
    "put_unreadable": lambda archive, number: archive.put_unreadable(CONFIG, sha256_of(number), b"?", reason="no JSON"),
    "begin_run": lambda archive, number: archive.begin_run(f"run {number}"),
    "put_report": lambda archive, number: archive.put_report(f"run {number}", b"{}"),
}
"""Everything that writes an object."""


def an_archive(bucket: str, endpoint_url: str, access_key: str, secret_key: str, encryption: Encryption) -> tuple[Archive, S3Client]:
    session = boto3.Session(aws_access_key_id=access_key, aws_secret_access_key=secret_key, region_name="us-east-1")
    config = Config(**client_config(Settings(s3_attempts=1), endpoint_url=endpoint_url))
    client = session.client("s3", endpoint_url=endpoint_url, config=config)
    puts = ObstorePuts(client, session, encryption=encryption)
    return Archive(client, bucket, uuid.uuid4().hex, encryption=encryption, puts=puts), client


def at(s3: S3, bucket: str, encryption: Encryption | None = None) -> tuple[Archive, S3Client]:
    return an_archive(bucket, s3.endpoint_url, s3.access_key, s3.secret_key, encryption or Encryption())


def a_bucket(s3: S3, **options: Any) -> str:
    name = f"b{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=name, **options)
    return name


def demand_encryption(s3: S3, bucket: str, algorithm: str) -> None:
    """Give the bucket the policy of AWS's own documentation: no put without the header."""
    statement = {
        "Sid": "deny-unencrypted",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
        "Condition": {"StringNotEquals": {"s3:x-amz-server-side-encryption": algorithm}},
    }
    s3.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


@pytest.mark.parametrize("name", PUTS)
def test_every_put_satisfies_a_policy_that_demands_encryption(s3: S3, name: str) -> None:
    bucket = a_bucket(s3)
    demand_encryption(s3, bucket, "AES256")
    plain, _ = at(s3, bucket)
    with pytest.raises(Misconfigured, match=r"access is denied.*server_side_encryption"):
        PUTS[name](plain, 1)
    encrypted, client = at(s3, bucket, Encryption("AES256"))
    for number in range(3):  # the first by the client, the next by obstore
        PUTS[name](encrypted, number)

    keys = [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]]
    folders = {"", "AES256"} if name == "begin_run" else {"AES256"}  # SeaweedFS encrypts no folder
    assert {client.head_object(Bucket=bucket, Key=key).get("ServerSideEncryption", "") for key in keys} <= folders


def refusing_without_checksum(seen: Seen) -> Reply:
    """Answer as S3 does for a bucket with Object Lock."""
    checksum = seen.headers.get("x-amz-checksum-sha256")
    if seen.method == "PUT" and checksum != b64encode(hashlib.sha256(seen.body).digest()).decode():
        message = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters"
        return Reply(status=400, body=f"<Error><Code>InvalidRequest</Code><Message>{message}</Message></Error>".encode())
    return Reply(status=404 if seen.method == "HEAD" and seen.path.endswith("/") else 200, headers={"ETag": '"e"'})


class LockedBucket(HttpStub):
    def answer(self, seen: Seen) -> Reply:
        self.requests.append(seen)
        return refusing_without_checksum(seen)


@pytest.mark.parametrize("name", PUTS)
@pytest.mark.parametrize("encryption", [Encryption(), KMS], ids=["plain", "kms"])
def test_every_put_carries_a_checksum_and_the_key_of_the_connection(name: str, encryption: Encryption) -> None:
    with LockedBucket() as stub:
        archive, client = an_archive("bucket", stub.url(""), "key", "secret", encryption)
        for number in range(3):
            PUTS[name](archive, number)
        client.close()
        sent = [seen.headers for seen in stub.requests if seen.method == "PUT"]
    algorithms = [headers.get("x-amz-server-side-encryption", "") for headers in sent]
    keys = [headers.get("x-amz-server-side-encryption-aws-kms-key-id", "") for headers in sent]
    assert algorithms == [encryption.algorithm] * 3
    assert keys == [encryption.kms_key_id] * 3


def test_a_deletion_carries_the_digests_that_services_old_and_new_demand(stub: HttpStub) -> None:
    archive, client = an_archive("bucket", stub.url(""), "key", "secret", Encryption())
    stub.at("/bucket", Reply(body=b"<DeleteResult/>"))
    archive.delete(["a", "b"])
    client.close()

    [sent] = stub.requests
    assert sent.headers["content-md5"] == b64encode(hashlib.md5(sent.body, usedforsecurity=False).digest()).decode()
    assert "x-amz-checksum-crc32" in sent.headers
    assert "content-md5" in sent.headers["authorization"]


@pytest.mark.parametrize("name", PUTS)
def test_a_bucket_with_object_lock_takes_every_put(s3: S3, name: str) -> None:
    bucket = a_bucket(s3, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    s3.client().put_object_lock_configuration(
        Bucket=bucket,
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule},  # type: ignore[typeddict-item]  # a literal
    )
    archive, client = at(s3, bucket)
    for number in (1, 1, 2):
        PUTS[name](archive, number)

    keys = [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]]
    archive.delete([key for key in keys if not key.endswith("/")])  # which leaves markers, and the versions until their retention ends
    left = [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
    assert left == [key for key in keys if key.endswith("/")]


# ── wrong settings


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"server_side_encryption": "aes-256"}, "must be one of AES256, aws:kms, aws:kms:dsse, not 'aes-256'"),
        ({"server_side_encryption": "sse-c"}, "must be one of"),
        ({"server_side_encryption": True}, "must be one of"),
        ({"sse_kms_key_id": "a-key"}, "sse_kms_key_id needs server_side_encryption to be aws:kms"),
        ({"server_side_encryption": "AES256", "sse_kms_key_id": "a-key"}, "sse_kms_key_id needs"),
    ],
)
def test_an_encryption_that_no_service_has_is_refused(extra: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misconfigured, match=sentence):
        Encryption.from_extra(extra)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "KMS.NotFoundException", Misconfigured),
        (400, "KMS.DisabledException", Misconfigured),
        (400, "InvalidEncryptionAlgorithmError", Misconfigured),
        (400, "InvalidArgument", Misconfigured),
        (501, "NotImplemented", Misconfigured),
        (503, "SlowDown", ArchiveUnavailable),
    ],
)
def test_a_key_that_cannot_be_used_is_a_wrong_setting_and_an_overload_is_not(
    stub: HttpStub, status: int, code: str, kind: type[AnomalyError]
) -> None:
    archive, client = an_archive("bucket", stub.url(""), "key", "secret", KMS)
    stub.at("/bucket", Reply())
    stub.at(f"/bucket/{archive.prefix}.writable", Reply(status=status, body=f"<Error><Code>{code}</Code></Error>".encode()))
    with pytest.raises(kind):
        archive.check()
    client.close()
