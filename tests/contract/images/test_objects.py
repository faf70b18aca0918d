"""Images in buckets: against a real S3 server, and against the stub where S3 has to fail in a certain way."""

from __future__ import annotations

import io
import re
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from PIL import Image as Pillow

from anomaly.archive.client import client_config
from anomaly.archive.image_objects import ImageObjects
from anomaly.errors import (
    AddressBlocked,
    AnomalyError,
    ImageDenied,
    ImageNotAnImage,
    ImageNotFound,
    ImageTooLarge,
    ImageTooManyPixels,
    ImageUnavailable,
)
from anomaly.images.download import ImageSource, session
from anomaly.images.objects import is_object, parse_object
from anomaly.images.rules import ImageRules
from anomaly.settings import Settings
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from anomaly.models.records import Image
    from embedded.s3 import S3

KEY = "2026/a photo + ümlaut%20.png"


def a_png(size: int = 8) -> bytes:
    out = io.BytesIO()
    Pillow.new("RGB", (size, size), (1, 2, 3)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def client(s3: S3) -> Iterator[S3Client]:
    made = s3.client()
    yield made
    made.close()


@pytest.fixture
def other_bucket(client: S3Client) -> str:
    name = f"other-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return name


def fetch(client: S3Client, s3: S3, url: str, *buckets: str, settings: Settings | None = None) -> Image:
    objects = ImageObjects(client, own_bucket=s3.bucket, deadline_s=60)
    with session(Settings()) as opened:
        return ImageSource(opened, settings or Settings(), ImageRules(buckets=frozenset(buckets)), objects=lambda: objects).fetch(url)


def test_an_image_in_the_own_bucket_is_read_by_its_key_as_it_is(client: S3Client, s3: S3) -> None:
    client.put_object(Bucket=s3.bucket, Key=KEY, Body=a_png())
    image = fetch(client, s3, f" s3://{s3.bucket}/{KEY}\n")
    assert (image.content, image.width_px, image.media_type) == (a_png(), 8, "image/png")


def test_another_bucket_has_to_be_allowed(client: S3Client, other_bucket: str, s3: S3) -> None:
    client.put_object(Bucket=other_bucket, Key="a.png", Body=a_png())
    with pytest.raises(AddressBlocked, match="images may not come from this bucket") as refused:
        fetch(client, s3, f"s3://{other_bucket}/a.png")
    assert refused.value.may_concern_run
    assert fetch(client, s3, f"s3://{other_bucket}/a.png", other_bucket).width_px == 8


@pytest.mark.parametrize(
    ("body", "settings", "error"),
    [
        (None, Settings(), ImageNotFound),
        (b"no image", Settings(), ImageNotAnImage),
        (a_png(), Settings(image_max_bytes=20), ImageTooLarge),
        (a_png(), Settings(image_max_px=20), ImageTooManyPixels),
    ],
)
def test_limits_and_checks_are_those_of_downloads(
    body: bytes | None, settings: Settings, error: type[AnomalyError], client: S3Client, s3: S3
) -> None:
    key = uuid.uuid4().hex
    if body is not None:
        client.put_object(Bucket=s3.bucket, Key=key, Body=body)
    with pytest.raises(error, match=f"s3://{s3.bucket}/{key}: "):
        fetch(client, s3, f"s3://{s3.bucket}/{key}", settings=settings)


@pytest.mark.parametrize("url", ["s3://", "s3:///a.png", "s3://bucket", "s3://bucket/", "s3://bucket/\0"])
def test_an_address_without_bucket_or_key_is_blocked(url: str, client: S3Client, s3: S3) -> None:
    with pytest.raises(AddressBlocked, match="not an address such as s3://bucket/key"):
        fetch(client, s3, url, "bucket")


def test_without_a_client_no_bucket_is_allowed() -> None:
    with session(Settings()) as opened, pytest.raises(AddressBlocked):
        ImageSource(opened, Settings(), ImageRules(buckets=frozenset({"b"}))).fetch("s3://b/a.png")


def test_only_the_scheme_makes_an_object() -> None:
    assert is_object("S3://b/k")
    assert not is_object("https://s3.example/b/k")
    assert str(parse_object("s3://b/a\x1b[2J")) == "s3://b/a\\x1b[2J"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=403, body=b"<Error><Code>AccessDenied</Code></Error>"), ImageDenied),
        (Reply(status=404, body=b"<Error><Code>NoSuchBucket</Code></Error>"), ImageDenied),
        (Reply(status=503, body=b"<Error><Code>SlowDown</Code></Error>"), ImageUnavailable),
        (Reply(status=500), ImageUnavailable),
        (Reply(reset=True), ImageUnavailable),
        (Reply(body=b"x" * 1000, cut_at=10), ImageUnavailable),
        (Reply(body=b"x" * 1000, trickled="body", trickle_s=0.3), ImageUnavailable),
    ],
)
def test_a_failure_of_the_service_is_one_of_this_record(reply: Reply, error: type[AnomalyError]) -> None:
    with HttpStub() as stub:
        stub.at("/bucket/a.png", reply)
        config = Config(**client_config(Settings(s3_attempts=1), endpoint_url=stub.url("")))
        to: Any = {"endpoint_url": stub.url(""), "region_name": "x", "aws_access_key_id": "k", "aws_secret_access_key": "s"}
        made = boto3.client("s3", config=config, **to)
        objects = ImageObjects(made, own_bucket="bucket", deadline_s=1.0)
        with pytest.raises(error, match=re.escape("s3://bucket/a.png: ")):
            objects.read(parse_object("s3://bucket/a.png"), max_bytes=2000)
        made.close()
