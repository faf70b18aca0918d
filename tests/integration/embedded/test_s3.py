"""The embedded S3: acknowledged objects survive a restart, and requests need the keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from embedded.s3 import S3

if TYPE_CHECKING:
    from pathlib import Path


WRONG = "guessed"


def test_objects_and_keys_are_there_after_a_restart(tmp_path: Path) -> None:
    with S3(tmp_path / "a folder") as first:
        first.client().put_object(Bucket=first.bucket, Key="a/b", Body=b"kept")
        keys = (first.access_key, first.secret_key, first.endpoint_url)
    with S3(tmp_path / "a folder") as second:
        assert (second.access_key, second.secret_key, second.endpoint_url) == keys
        assert second.client().get_object(Bucket=second.bucket, Key="a/b")["Body"].read() == b"kept"


def test_a_wrong_secret_is_refused(s3: S3) -> None:
    client = boto3.client(
        "s3", endpoint_url=s3.endpoint_url, region_name=s3.region, aws_access_key_id=s3.access_key, aws_secret_access_key=WRONG
    )
    with pytest.raises(ClientError) as caught:
        client.list_objects_v2(Bucket=s3.bucket)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize("service", ["filer.port", "volume.port"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_ports_neither_show_nor_change_an_object(s3: S3, service: str, method: str) -> None:
    s3.client().put_object(Bucket=s3.bucket, Key="shielded", Body=b"mine")
    port = json.loads((s3.folder / "ports.json").read_text())[service]
    for path in (f"/buckets/{s3.bucket}/shielded", f"/buckets/{s3.bucket}/", "/"):
        assert requests.request(method, f"http://127.0.0.1:{port}{path}", data=b"evil", timeout=5).status_code in {400, 401}
    assert s3.client().get_object(Bucket=s3.bucket, Key="shielded")["Body"].read() == b"mine"


def test_the_second_of_two_conditional_puts_is_refused(s3: S3) -> None:
    client = s3.client()
    client.put_object(Bucket=s3.bucket, Key="once", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        client.put_object(Bucket=s3.bucket, Key="once", Body=b"second", IfNoneMatch="*")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
