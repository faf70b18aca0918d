"""Puts by obstore, against the stub where S3 has to fail in a certain way."""

from __future__ import annotations

import hashlib
import ssl
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import trustme
from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError

from anomaly.archive.bucket import Archive
from anomaly.archive.client import client_config
from anomaly.archive.obstore_puts import BODY_MAX_BYTES, PAUSE_S, ObstorePuts
from anomaly.errors import ArchiveUnavailable, Misconfigured
from anomaly.models.records import Image
from anomaly.settings import Settings
from tests.parts.http_stub import HttpStub, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parts.http_stub import Seen

CONFIG = "c" * 64
BODY = b"{}"
BY_THE_CLIENT = "amz-sdk-invocation-id"
"""A header of botocore's client."""
SIGNED = ("content-type", "host", "if-none-match", "x-amz-checksum-sha256", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token")
WRITTEN = Reply(headers={"ETag": '"e"'})


def failure(status: int, code: str) -> Reply:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>"
    return Reply(status=status, body=body.encode(), content_type="application/xml")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Session(boto3.Session):
    """A session whose credentials a test chooses."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(region_name="eu-north-1")
        self._session._credentials = credentials  # type: ignore[attr-defined]  # noqa: SLF001  # as if a provider had found them


class Puts:
    """An archive at the stub that puts by obstore where it can."""

    def __init__(
        self, stub: HttpStub, *, endpoint_url: str = "", credentials: Credentials | None = None, verify: Any = None, **config: Any
    ) -> None:
        self.clock, self.retries = Clock(), 0
        session = Session(credentials or Credentials("key", "secret"))
        endpoint_url = endpoint_url or stub.url("")
        merged = {**client_config(Settings(), endpoint_url=endpoint_url), **config}
        self.client = session.client("s3", endpoint_url=endpoint_url, config=Config(**merged), verify=verify)
        puts = ObstorePuts(self.client, session, verify=verify, on_retry=self.on_retry, clock=self.clock)
        self.archive = Archive(self.client, "bucket", "a b/ü#", puts=puts, on_retry=self.on_retry)
        self.stub = stub

    def put(self, number: int, *replies: Reply, body: bytes = BODY) -> None:
        """Put an object of that number, to which the stub replies so."""
        image_sha256 = f"{number:064x}"
        self.stub.at(f"/bucket/a%20b/%C3%BC%23/answers/{CONFIG}/00/{image_sha256}.json", *(replies or [WRITTEN]))
        self.archive.put_answer(CONFIG, image_sha256, body, batch=None)

    def on_retry(self) -> None:
        self.retries += 1

    def senders(self) -> list[str]:
        return ["client" if BY_THE_CLIENT in seen.headers else "obstore" for seen in self.stub.requests]


@pytest.fixture
def puts(stub: HttpStub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Puts]:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # botocore's waits cannot be injected
    made = Puts(stub)
    yield made
    made.client.close()


def test_after_the_client_has_put_one_object_obstore_puts_the_next(puts: Puts, stub: HttpStub) -> None:
    for number in range(4):
        puts.put(number)

    assert puts.senders() == ["client", "obstore", "obstore", "obstore"]
    first, second, *_ = stub.requests
    for name in ("if-none-match", "x-amz-checksum-sha256", "content-type", "content-length"):
        assert second.headers[name] == first.headers[name], name
    assert second.headers["x-amz-checksum-sha256"] == b64encode(hashlib.sha256(BODY).digest()).decode()
    assert second.headers["authorization"] == signature_of_botocore(second, Credentials("key", "secret"))


def test_the_environment_changes_neither_address_nor_signature(puts: Puts, stub: HttpStub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("AWS_SKIP_SIGNATURE", "AWS_UNSIGNED_PAYLOAD", "AWS_S3_EXPRESS"):
        monkeypatch.setenv(name, "true")
    puts.put(1)
    puts.put(2)

    assert puts.senders() == ["client", "obstore"]
    assert stub.requests[1].headers["authorization"] == signature_of_botocore(stub.requests[1], Credentials("key", "secret"))


def test_many_threads_put_by_obstore(puts: Puts) -> None:
    puts.put(64)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(puts.put, range(64)))

    assert puts.senders() == ["client", *["obstore"] * 64]


def test_an_object_that_exists_needs_one_put(puts: Puts) -> None:
    puts.put(1)
    puts.put(2, failure(412, "PreconditionFailed"))
    puts.put(3)

    assert puts.senders() == ["client", "obstore", "obstore"]


@pytest.mark.parametrize("body", [b"", b"<Error><Code>NotModified</Code></Error>"])
def test_a_304_to_a_put_means_that_the_object_exists(puts: Puts, body: bytes) -> None:
    """Some servers answer so to `If-None-Match: *`."""
    there = Reply(status=304, headers={"Connection": "close"})
    puts.put(1, there)
    puts.put(2)
    puts.put(3, there)
    puts.put(4, Reply(status=412, body=body))

    assert puts.senders() == ["client", "client", "obstore", "obstore"]


def test_a_conflict_of_two_writers_is_the_clients_to_solve(puts: Puts) -> None:
    puts.put(1)
    puts.put(2, failure(409, "ConditionalRequestConflict"), failure(409, "ConditionalRequestConflict"), failure(412, "PreconditionFailed"))
    puts.put(3)

    assert puts.senders() == ["client", "obstore", "client", "client", "obstore"]


@pytest.mark.parametrize(
    "reply",
    [
        failure(500, "InternalError"),
        failure(503, "SlowDown"),
        failure(403, "RequestTimeTooSkewed"),
        Reply(reset=True),
        Reply(raw=b""),
        Reply(),
    ],
    ids=["500", "503", "403", "RST", "closed", "no ETag"],
)
def test_what_fails_by_obstore_goes_through_the_client_for_a_while(puts: Puts, reply: Reply) -> None:
    puts.put(1)
    puts.put(2, reply, Reply())
    puts.put(3)
    puts.clock.now += PAUSE_S
    puts.put(4)
    puts.put(5)

    assert puts.senders() == ["client", "obstore", "client", "client", "client", "obstore"]


def test_a_silent_server_is_left_to_the_client_after_the_read_timeout(stub: HttpStub) -> None:
    made = Puts(stub, read_timeout=1)
    made.put(1)
    made.put(2, Reply(headers_after_s=60), Reply())
    made.client.close()

    assert made.senders() == ["client", "obstore", "client"]


def test_every_further_request_counts_as_a_retry(puts: Puts) -> None:
    puts.put(1)
    puts.put(2)
    assert puts.retries == 0
    puts.put(3, Reply(status=503), Reply())
    assert (puts.senders()[-2:], puts.retries) == (["obstore", "client"], 1)
    puts.put(4, Reply(status=503), Reply(status=503), Reply())
    assert (puts.senders()[-3:], puts.retries) == (["client"] * 3, 3)


@pytest.mark.parametrize(
    ("reply", "error", "sentence"),
    [
        (failure(400, "ExpiredToken"), Misconfigured, "session token"),
        (failure(403, "AccessDenied"), Misconfigured, "access is denied"),
        (failure(404, "NoSuchBucket"), Misconfigured, "no such bucket"),
        (failure(501, "NotImplemented"), Misconfigured, "does not support"),
        (Reply(status=501), Misconfigured, "does not support"),
        (failure(405, "MethodNotAllowed"), Misconfigured, "does not support"),
        (failure(400, "InvalidRequest"), Misconfigured, "policy, encryption or Object Lock"),
        (failure(400, "InvalidArgument"), Misconfigured, "policy, encryption or Object Lock"),
        (failure(403, "AllAccessDisabled"), Misconfigured, "disabled"),
        (failure(403, "AccountProblem"), Misconfigured, "account"),
        (failure(400, "BadDigest"), ArchiveUnavailable, "BadDigest"),
    ],
)
def test_the_client_explains_a_failure(puts: Puts, reply: Reply, error: type[Exception], sentence: str) -> None:
    puts.put(1)
    with pytest.raises(error, match=sentence):
        puts.put(2, reply)

    assert puts.senders() == ["client", "obstore", "client"]


def test_a_bucket_in_another_region_is_followed_there(puts: Puts, stub: HttpStub) -> None:
    moved = Reply(status=301, headers={"x-amz-bucket-region": "eu-west-1"}, body=failure(301, "PermanentRedirect").body)
    puts.put(1, moved, Reply())
    puts.put(2)

    assert puts.senders() == ["client", "client", "obstore"]
    assert ["/eu-west-1/s3/" in seen.headers["authorization"] for seen in stub.requests] == [False, True, True]


def test_a_large_body_goes_through_the_client(puts: Puts) -> None:
    puts.put(1)
    puts.put(2, body=b"x" * BODY_MAX_BYTES)
    puts.put(3, body=b"x" * (BODY_MAX_BYTES + 1))

    assert puts.senders() == ["client", "obstore", "client"]


def test_a_runs_folder_goes_through_the_client(puts: Puts, stub: HttpStub) -> None:
    puts.put(1)
    stub.at("/bucket/a%20b/%C3%BC%23/runs/r/", Reply(status=404), Reply())
    puts.archive.begin_run("r")

    assert puts.senders() == ["client", "client", "client"]


# --- credentials


def test_renewed_credentials_sign_the_next_puts(stub: HttpStub) -> None:
    """The credentials of an assumed role: botocore renews those that have less than ten minutes left."""
    given = iter(range(1, 100))

    def renewed() -> dict[str, str]:
        number, expiry = next(given), datetime.now(UTC) + timedelta(minutes=9)
        return {"access_key": "key", "secret_key": f"secret{number}", "token": f"{number}", "expiry_time": expiry.isoformat()}

    made = Puts(stub, credentials=RefreshableCredentials.create_from_metadata(renewed(), renewed, "sts-assume-role"))
    made.put(0)
    while len({seen.headers["x-amz-security-token"] for seen in stub.requests[1:]}) < 3:  # obstore asks for them every 100 ms at most
        made.put(1)
    made.client.close()

    assert made.senders() == ["client", *["obstore"] * (len(stub.requests) - 1)]
    for seen in stub.requests[1:]:
        token = seen.headers["x-amz-security-token"]
        assert seen.headers["authorization"] == signature_of_botocore(seen, Credentials("key", f"secret{token}", token))


class Revoked(Credentials):
    revoked = False

    def get_frozen_credentials(self) -> Any:
        if self.revoked:
            raise CredentialRetrievalError(provider="assume-role", error_msg="denied")
        return super().get_frozen_credentials()


def test_credentials_that_cannot_be_renewed_are_what_the_archive_lacks(stub: HttpStub) -> None:
    credentials = Revoked("key", "secret")
    made = Puts(stub, credentials=credentials)
    made.put(1)
    credentials.revoked = True
    with pytest.raises(ArchiveUnavailable, match="CredentialRetrievalError"):
        made.put(2)
    made.client.close()

    assert len(stub.requests) == 1


def signature_of_botocore(seen: Seen, credentials: Credentials) -> str:
    """Return the Authorization that botocore would have sent with the request."""
    headers = {name: value for name, value in seen.headers.items() if name.lower() in SIGNED}
    request = AWSRequest("PUT", f"http://{seen.headers['host']}{seen.path}", headers=headers, data=seen.body)
    request.context["timestamp"] = seen.headers["x-amz-date"]
    signer = S3SigV4Auth(credentials, "s3", "eu-north-1")
    names = signer.signed_headers(signer.headers_to_sign(request))
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, SignedHeaders={names}, Signature={signature}"


# --- what obstore cannot do, and what it does as the connection asks


def test_a_client_that_does_not_sign_puts_everything_itself(stub: HttpStub) -> None:
    made = Puts(stub, signature_version=UNSIGNED)
    made.put(1)
    made.put(2)
    made.client.close()

    assert made.senders() == ["client", "client"]


@pytest.mark.parametrize("config", [{"client_cert": "/nowhere.pem"}, {"proxies_config": {"proxy_use_forwarding_for_https": False}}])
def test_what_obstore_cannot_do_is_left_to_the_client(stub: HttpStub, config: dict[str, Any]) -> None:
    made = Puts(stub, **config)
    made.put(1)
    made.put(2)
    made.client.close()

    assert made.senders() == ["client", "client"]


@pytest.mark.parametrize(
    ("style", "base_url"), [("path", "http://s3.example.com/bucket"), ("virtual", "http://bucket.s3.example.com")], ids=["path", "virtual"]
)
def test_obstore_uses_the_clients_proxy_and_addressing(stub: HttpStub, style: str, base_url: str) -> None:
    made = Puts(stub, endpoint_url="http://s3.example.com", proxies={"http": stub.url("").rstrip("/")}, s3={"addressing_style": style})
    for number in (1, 2):
        stub.at(f"{base_url}/a%20b/%C3%BC%23/answers/{CONFIG}/00/{number:064x}.json", WRITTEN)
        made.archive.put_answer(CONFIG, f"{number:064x}", BODY, batch=None)
    made.client.close()

    assert made.senders() == ["client", "obstore"]
    assert [seen.path.startswith(base_url) for seen in stub.requests] == [True, True]


CA = trustme.CA()


@pytest.fixture
def secure() -> Iterator[HttpStub]:
    """A server that speaks TLS as localhost, with a certificate by an authority of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("localhost").configure_cert(context)
    with HttpStub(tls=context) as server:
        yield server


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("by", ["verify", "AWS_CA_BUNDLE", "no check"])
def test_certificates_are_checked_as_the_client_does(secure: HttpStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    bundle = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(bundle)
    if by == "AWS_CA_BUNDLE":
        monkeypatch.setenv(by, str(bundle))
    made = Puts(secure, verify={"verify": str(bundle), "no check": False}.get(by))
    made.put(1)
    made.put(2)
    made.client.close()

    assert made.senders() == ["client", "obstore"]


def test_obstore_refuses_a_certificate_that_it_was_not_told_to_trust(secure: HttpStub, tmp_path: Path) -> None:
    CA.cert_pem.write_to_path(tmp_path / "ca.pem")
    made = Puts(secure, verify=str(tmp_path / "ca.pem"))
    puts = ObstorePuts(made.client, Session(Credentials("key", "secret")), on_retry=made.on_retry)
    made.archive = Archive(made.client, "bucket", "a b/ü#", puts=puts)
    made.put(1)
    made.put(2)
    made.client.close()

    assert (made.senders(), made.retries) == (["client", "client"], 1)


def test_an_image_is_stored_with_its_type(puts: Puts, stub: HttpStub) -> None:
    image = Image(content=b"i", sha256=hashlib.sha256(b"i").hexdigest(), media_type="image/png", width_px=1, height_px=1)
    puts.put(1)
    stub.at(f"/bucket/a%20b/%C3%BC%23/images/sha256/{image.sha256[:2]}/{image.sha256}.png", WRITTEN)
    puts.archive.put_image(image)

    assert (stub.requests[1].headers["content-type"], stub.requests[1].body) == ("image/png", b"i")
    assert puts.senders() == ["client", "obstore"]
