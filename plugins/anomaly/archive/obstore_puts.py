"""Create objects with obstore, at a tenth of the processor time of botocore's client.

Only a clear success counts. Whatever else happens is left to the client: it retries, adapts its rate, follows a bucket into its
region, and gives each error its meaning.
"""

from __future__ import annotations

import os
import re
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from botocore.httpsession import ProxyConfiguration, get_cert_path
from botocore.utils import get_environ_proxies
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from anomaly.archive.encryption import Encryption

if TYPE_CHECKING:
    from collections.abc import Callable

    from boto3.session import Session
    from mypy_boto3_s3 import S3Client
    from obstore.store import ClientConfig

PAUSE_S = 10.0
"""Time for which all puts go through the client after one by obstore has failed."""
BODY_MAX_BYTES = 4 * 1024 * 1024
"""Larger bodies go through the client: obstore's read timeout includes the time to send the body."""
CREDENTIALS_TTL = timedelta(minutes=1)
"""Lifetime of credentials for obstore, which asks for new ones five minutes before its end, at most ten times a second. So those
that botocore has renewed are used at once."""
# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^/]+)/s3/aws4_request,")
# obstore raises one error for 412, the object exists, which some servers say by 304, and 409, another writer creates it now, which may
# yet fail.
_EXISTS = ("status code: 412 Precondition Failed", "status code: 304 Not Modified")


class _Signed(NamedTuple):
    url: str
    region: str


class ObstorePuts:
    """Create objects below the address that the client's own puts go to. For many threads.

    obstore's threads start with the first put, and inherit the processor affinity of the thread that makes it.

    Args:
        client: its puts show address and signing region, after virtual hosting, access points and redirects are resolved.
        session: its credentials sign the puts, renewed ones too.
        encryption: server-side encryption of the objects.
        verify: as botocore's: False, a file of certificates, or None for the default.
        on_retry: called for each put that has failed and goes through the client again.
    """

    def __init__(
        self,
        client: S3Client,
        session: Session,
        *,
        encryption: Encryption | None = None,
        verify: bool | str | None = None,
        on_retry: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config: Any = client.meta.config
        self._session = session
        self._encryption = encryption or Encryption()
        self._verify = verify
        self._on_retry = on_retry
        self._clock = clock
        self._store: S3Store | None = None
        self._paused_until = float("-inf")
        self._last_signed = _Signed("", "")
        self._opening = threading.Lock()
        client.meta.events.register("before-send.s3.PutObject", self._note)

    def create(self, key: str, body: bytes, content_type: str) -> bool:
        """Create an object unless it exists; return whether it is certain that it exists now."""
        store = self._store
        if store is None or len(body) > BODY_MAX_BYTES or key.endswith("/"):  # which obstore would cut off
            return False
        try:
            store.put(key, body, attributes={"Content-Type": content_type}, mode="create", use_multipart=False)
        except AlreadyExistsError as exc:
            return any(status in str(exc) for status in _EXISTS)
        except (BaseError, OSError, ValueError):
            self._store = None
            self._paused_until = self._clock() + PAUSE_S
            self._on_retry()
            return False
        return True

    def learn(self, key: str) -> None:
        """Take the address over from the put of *key*, with which the client has just succeeded."""
        if self._store is not None or self._clock() < self._paused_until:
            return
        url, region = self._last_signed
        base_url = url.removesuffix(f"/{quote(key)}")
        if not region or base_url == url:  # unsigned or signed otherwise, or the put of another thread
            return
        with self._opening:  # reading the certificates takes 17 ms
            self._store = self._store or self._open(base_url, region)

    def _note(self, request: Any, **_: Any) -> None:
        authorization = request.headers.get("Authorization", "")
        signed = _AUTHORIZATION.match(authorization.decode() if isinstance(authorization, bytes) else authorization)
        self._last_signed = _Signed(request.url, signed[1] if signed else "")

    def _open(self, base_url: str, region: str) -> S3Store | None:
        options = self._client_options(base_url)
        if options is None:
            return None
        return S3Store(
            "bucket",  # part of the address already
            config={
                "endpoint": base_url,
                "aws_endpoint_url_s3": base_url,  # so that the environment does not set another one
                "virtual_hosted_style_request": True,
                "region": region,
                "checksum_algorithm": "SHA256",  # a bucket with Object Lock demands one
                "skip_signature": False,
                "unsigned_payload": False,
                "s3_express": False,
                **self._encryption.obstore_options,
            },
            client_options=options,
            retry_config={"max_retries": 0},
            credential_provider=Boto3CredentialProvider(self._session, ttl=CREDENTIALS_TTL),
        )

    def _client_options(self, base_url: str) -> ClientConfig | None:
        """Return the client's timeouts, proxy and certificates for obstore, None if obstore cannot do what they ask for."""
        config = self._config
        verify = self._verify
        if verify is None:
            verify = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or True
        certificates = get_cert_path(True) if verify is True else verify
        if config.client_cert or config.proxies_config or (certificates and not Path(certificates).is_file()):
            return None
        options: ClientConfig = {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=config.connect_timeout),
            "read_timeout": timedelta(seconds=config.read_timeout),
            "timeout": timedelta(seconds=2 * config.read_timeout),
            "pool_max_idle_per_host": str(config.max_pool_connections),
            "user_agent": config.user_agent,
        }
        if certificates:
            options["root_certificate"] = Path(certificates).read_bytes()
        else:
            options["allow_invalid_certificates"] = True
        proxies = get_environ_proxies(base_url) if config.proxies is None else config.proxies
        if proxy_url := ProxyConfiguration(proxies).proxy_url_for(base_url):
            options["proxy_url"] = proxy_url
        return options
