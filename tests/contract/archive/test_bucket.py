"""The archive against a real S3 server; against the stub where S3 has to fail in a certain way."""

from __future__ import annotations

import hashlib
import itertools
import time
import uuid
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from anomaly.archive.bucket import Archive
from anomaly.archive.client import client_config
from anomaly.archive.obstore_puts import ObstorePuts
from anomaly.errors import ArchiveUnavailable, Misconfigured
from anomaly.models.records import Image
from anomaly.settings import Settings
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from embedded.s3 import S3

CONFIG = "c" * 64
PNG = b"\x89PNG\r\n\x1a\n"


def an_image(content: bytes = b"an image") -> Image:
    return Image(content=content, sha256=hashlib.sha256(content).hexdigest(), media_type="image/png", width_px=1, height_px=1)


def a_client(endpoint_url: str, access_key: str = "key", secret_key: str = "secret", **settings: Any) -> S3Client:  # noqa: S107  # for the stub
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=Config(**client_config(Settings(**settings), endpoint_url=endpoint_url)),
    )


@pytest.fixture(scope="session")
def client(s3: S3) -> Iterator[S3Client]:
    made = a_client(s3.endpoint_url, s3.access_key, s3.secret_key)
    yield made
    made.close()


@pytest.fixture
def prefix() -> str:
    """Where a test is alone."""
    return uuid.uuid4().hex


@pytest.fixture(scope="session")
def puts(client: S3Client, s3: S3) -> ObstorePuts:
    """Puts that know the address, and never pause."""
    session = boto3.Session(aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key)
    made = ObstorePuts(client, session, clock=itertools.count(step=60.0).__next__)
    Archive(client, s3.bucket, "first", puts=made).put_image(an_image())
    return made


@pytest.fixture(params=["by the client", "by obstore"])
def archive(request: pytest.FixtureRequest, client: S3Client, s3: S3, prefix: str, puts: ObstorePuts) -> Archive:
    return Archive(client, s3.bucket, f"/{prefix}/", puts=puts if request.param == "by obstore" else None)


@pytest.fixture
def at_stub(stub: HttpStub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # botocore's waits cannot be injected
    made = a_client(stub.url(""))
    yield Archive(made, "bucket")
    made.close()


def keys(client: S3Client, s3: S3, prefix: str) -> set[str]:
    found = client.list_objects_v2(Bucket=s3.bucket, Prefix=prefix).get("Contents", [])
    return {each["Key"].removeprefix(f"{prefix}/") for each in found}


def failure(status: int, code: str) -> Reply:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>"
    return Reply(status=status, body=body.encode(), content_type="application/xml")


# --- what is there afterwards


def test_an_image_put_twice_is_one_object_with_its_hash_as_key(archive: Archive, client: S3Client, s3: S3, prefix: str) -> None:
    image = an_image()
    first, second = archive.put_image(image), archive.put_image(image)
    stored = client.get_object(Bucket=s3.bucket, Key=first, ChecksumMode="ENABLED")

    assert first == second == f"{prefix}/images/sha256/{image.sha256[:2]}/{image.sha256}.png"
    assert keys(client, s3, prefix) == {first.removeprefix(f"{prefix}/")}
    assert (stored["Body"].read(), stored["ContentType"]) == (image.content, "image/png")
    assert stored["ChecksumSHA256"] == b64encode(bytes.fromhex(image.sha256)).decode()


def test_the_client_does_not_store_content_that_is_not_what_its_hash_says(client: S3Client, s3: S3, prefix: str) -> None:
    wrong = Image(content=b"x", sha256="0" * 64, media_type="image/png", width_px=1, height_px=1)
    with pytest.raises(ArchiveUnavailable):
        Archive(client, s3.bucket, prefix).put_image(wrong)

    assert keys(client, s3, prefix) == set()


def test_the_first_answer_stays(archive: Archive) -> None:
    sha256 = an_image().sha256
    key = archive.put_answer(CONFIG, sha256, b'{"first": 1}', batch=None)

    assert archive.put_answer(CONFIG, sha256, b'{"second": 1}', batch=None) == key
    assert archive.find_answer(CONFIG, sha256, batch=None) == b'{"first": 1}'


def test_of_many_writers_of_an_answer_one_wins(archive: Archive) -> None:
    sha256, written = an_image().sha256, [str(number).encode() for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda raw: archive.put_answer(CONFIG, sha256, raw, batch=None), written))) == 1
    assert archive.find_answer(CONFIG, sha256, batch=None) in written


def test_answers_are_told_apart_by_configuration_image_and_batch(archive: Archive) -> None:
    sha256 = an_image().sha256
    archive.put_answer(CONFIG, sha256, b"1", batch=None)

    assert archive.find_answer(CONFIG, sha256, batch="b") is None
    assert archive.find_answer("d" * 64, sha256, batch=None) is None
    assert archive.find_answer(CONFIG, "0" * 64, batch=None) is None
    archive.put_answer(CONFIG, sha256, b"2", batch="b")
    assert archive.find_answer(CONFIG, sha256, batch="b") == b"2"
    assert archive.find_answer(CONFIG, sha256, batch=None) == b"1"


@pytest.mark.parametrize(("raw", "extension"), [(b'{"detail": "busy"}', "json"), (b"<html>", "bin"), (b"[" * 60_000, "bin"), (b"", "bin")])
def test_the_newest_unreadable_answer_about_an_image_is_kept_with_its_reason(
    archive: Archive, client: S3Client, s3: S3, raw: bytes, extension: str
) -> None:
    archive.put_unreadable(CONFIG, an_image().sha256, raw, reason="an earlier one")
    key = archive.put_unreadable(CONFIG, an_image().sha256, raw, reason="'score' is not a number: größer\nals 1" + "x" * 3000)
    stored = client.get_object(Bucket=s3.bucket, Key=key)

    assert f"unreadable/{CONFIG}/{an_image().sha256[:2]}/{an_image().sha256}.{extension}" in key
    assert stored["Body"].read() == raw
    assert stored["Metadata"]["reason"].startswith("'score' is not a number: gr")


def test_a_heat_map_has_a_place_of_its_own(archive: Archive, client: S3Client, s3: S3) -> None:
    key = archive.put_heatmap(CONFIG, an_image().sha256, PNG, batch=None)
    stored = client.get_object(Bucket=s3.bucket, Key=key)

    assert (stored["Body"].read(), stored["ContentType"]) == (PNG, "image/png")
    assert "/heatmaps/" in key


def test_a_run_has_a_folder_and_a_report_that_can_be_replaced(archive: Archive, client: S3Client, s3: S3, prefix: str) -> None:
    archive.begin_run("manual__1")
    archive.put_report("manual__1", b"{}")
    key = archive.put_report("manual__1", b'{"done": 1}')

    assert keys(client, s3, prefix) == {"runs/manual__1/", "runs/manual__1/report.json"}
    assert client.get_object(Bucket=s3.bucket, Key=key)["Body"].read() == b'{"done": 1}'


def test_a_folder_that_is_there_is_no_error(client: S3Client, s3: S3, prefix: str) -> None:
    for _ in range(2):
        Archive(client, s3.bucket, prefix).begin_run("r")  # as another process would

    assert keys(client, s3, prefix) == {"runs/r/"}


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "scheduled__2026-01-01T00:00:00+00:00", "ü" * 300, "", "a b?c#d\n", "."])
def test_any_run_id_stays_below_the_folder_of_runs(archive: Archive, client: S3Client, s3: S3, prefix: str, run_id: str) -> None:
    archive.put_report(run_id, b"{}")
    (key,) = keys(client, s3, prefix)

    assert key.startswith("runs/")
    assert key.endswith("/report.json")
    assert key.count("/") == 2


def test_run_ids_that_look_alike_are_kept_apart(archive: Archive, client: S3Client, s3: S3, prefix: str) -> None:
    for run_id in ("a/b", "a_b", "a?b"):
        archive.put_report(run_id, b"{}")

    assert len(keys(client, s3, prefix)) == 3


# --- requests


def test_each_put_is_one_request(at_stub: Archive, stub: HttpStub) -> None:
    image = an_image()
    image_key = f"/bucket/images/sha256/{image.sha256[:2]}/{image.sha256}.png"
    stub.at(image_key, Reply(), failure(412, "PreconditionFailed"))
    for _ in range(2):
        at_stub.put_image(image)

    assert [(seen.method, seen.headers["if-none-match"], seen.body) for seen in stub.requests] == [("PUT", "*", image.content)] * 2
    assert "x-amz-checksum-sha256" in stub.requests[0].headers


def test_the_folder_is_looked_for_before_it_is_made_and_once_a_process(at_stub: Archive, stub: HttpStub) -> None:
    stub.at("/bucket/runs/r/", Reply(status=404), Reply())
    for _ in range(3):
        at_stub.begin_run("r")

    assert [seen.method for seen in stub.requests] == ["HEAD", "PUT"]


def test_a_folder_that_could_not_be_made_is_asked_for_again(at_stub: Archive, stub: HttpStub) -> None:
    stub.at("/bucket/runs/r/", Reply(status=500), Reply(status=500), Reply(status=500), Reply())
    with pytest.raises(ArchiveUnavailable):
        at_stub.begin_run("r")
    at_stub.begin_run("r")

    assert [seen.method for seen in stub.requests] == ["HEAD"] * 4


def test_a_conflict_of_two_writers_is_tried_again(at_stub: Archive, stub: HttpStub) -> None:
    key = "/bucket/" + at_stub._run_key("r", "")  # noqa: SLF001  # any key does
    stub.at(key, Reply(status=404), failure(409, "ConditionalRequestConflict"), failure(412, "PreconditionFailed"))
    at_stub.begin_run("r")

    assert [seen.method for seen in stub.requests] == ["HEAD", "PUT", "PUT"]


@pytest.mark.parametrize(
    "reply", [failure(500, "InternalError"), failure(503, "ServiceUnavailable"), Reply(reset=True)], ids=["500", "503", "RST"]
)
def test_a_request_is_tried_three_times_in_all(at_stub: Archive, stub: HttpStub, reply: Reply) -> None:
    stub.at("/bucket/runs/r/report.json", reply)
    with pytest.raises(ArchiveUnavailable):
        at_stub.put_report("r", b"{}")

    assert len(stub.requests) == 3


@pytest.mark.parametrize(
    "reply",
    [
        failure(507, "XMinioStorageFull"),
        failure(507, "InsufficientStorage"),
        Reply(status=507),
        failure(400, "XMinioAdminBucketQuotaExceeded"),
        failure(403, "QuotaExceeded"),
    ],
    ids=["MinIO", "507", "no body", "quota of MinIO", "quota of Ceph"],
)
def test_a_bucket_without_space_is_waited_for_and_named(at_stub: Archive, stub: HttpStub, reply: Reply) -> None:
    key = "/bucket/runs/r/report.json"
    stub.at(key, reply)
    with pytest.raises(ArchiveUnavailable, match="the storage of the bucket is full"):
        at_stub.put_report("r", b"{}")
    stub.at(key, Reply())
    at_stub.put_report("r", b"{}")


def test_a_request_that_fails_twice_succeeds(at_stub: Archive, stub: HttpStub) -> None:
    stub.at("/bucket/runs/r/report.json", failure(500, "InternalError"), failure(500, "InternalError"), Reply())
    at_stub.put_report("r", b"{}")

    assert len(stub.requests) == 3


def test_retries_pool_and_timeouts_are_those_of_the_settings(client: S3Client) -> None:
    config: Any = client.meta.config

    assert config.retries == {"mode": "adaptive", "total_max_attempts": 3}
    assert (config.max_pool_connections, config.connect_timeout, config.read_timeout) == (50, 5, 30)


def test_fifty_threads_keep_fifty_connections(stub: HttpStub) -> None:
    stub.at("/bucket/runs/r/report.json", Reply())
    client = a_client(stub.url(""))
    archive = Archive(client, "bucket")
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda _: archive.put_report("r", b"{}"), range(400)))
    client.close()

    assert len(stub.requests) == 400
    assert stub.connections <= 50


# --- errors


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (failure(404, "NoSuchBucket"), "no such bucket"),
        (failure(403, "AccessDenied"), "s3:ListBucket"),
        (failure(403, "InvalidAccessKeyId"), "access key"),
        (failure(403, "SignatureDoesNotMatch"), "secret key"),
        (failure(400, "ExpiredToken"), "session token"),
        (failure(400, "AuthorizationHeaderMalformed"), "region"),
    ],
)
def test_what_a_person_has_to_mend_stops_the_run(at_stub: Archive, stub: HttpStub, reply: Reply, sentence: str) -> None:
    stub.at("/bucket", Reply(status=403))
    stub.at("/bucket/.writable", reply)
    with pytest.raises(Misconfigured, match=sentence):
        at_stub.check()


def test_an_answer_that_is_cut_off_is_unavailable(at_stub: Archive, stub: HttpStub) -> None:
    stub.at(f"/bucket/answers/{CONFIG}/00/{'0' * 64}.json", Reply(body=b"x" * 1000, cut_at=10))
    with pytest.raises(ArchiveUnavailable):
        at_stub.find_answer(CONFIG, "0" * 64, batch=None)


def test_a_server_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    client = a_client("http://127.0.0.1:9")
    with pytest.raises(ArchiveUnavailable, match="EndpointConnectionError"):
        Archive(client, "bucket").check()
    client.close()


def test_a_bucket_that_is_there_and_writable_passes_the_check(archive: Archive) -> None:
    archive.check()


@pytest.mark.parametrize("date", ["never", "", "Mon, 99 Foo 2026 25:61:61 GMT", "9" * 400])
def test_a_date_that_is_none_fails_no_check(at_stub: Archive, stub: HttpStub, date: str) -> None:
    for path in ("/bucket", "/bucket/.writable"):
        stub.at(path, Reply(headers={"Date": date}))
    at_stub.check()
    assert at_stub.clock() is None


def test_a_bucket_that_is_not_there_fails_the_check(client: S3Client) -> None:
    with pytest.raises(Misconfigured, match="no such bucket"):
        Archive(client, "missing").check()


def test_a_wrong_secret_fails_the_check(s3: S3) -> None:
    client = a_client(s3.endpoint_url, s3.access_key, "wrong")
    with pytest.raises(Misconfigured, match="secret key"):
        Archive(client, s3.bucket).check()
    client.close()


def test_a_name_that_is_no_bucket_fails_the_check(client: S3Client) -> None:
    with pytest.raises(Misconfigured, match="bucket"):
        Archive(client, "no bucket!").check()
