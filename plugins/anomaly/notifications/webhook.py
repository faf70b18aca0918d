"""Sends notifications to a webhook, signed as https://www.standardwebhooks.com describes."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import time
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from standardwebhooks import Webhook as Signer
from urllib3 import Timeout

from anomaly.backoff import delay_s, wait_hint_s
from anomaly.errors import Misconfigured
from anomaly.notifications.message import NotSent
from anomaly.transport.session import REQUEST_ERRORS, PooledSession, hide_query_strings

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly.notifications.message import Notification

TIMEOUT_S = 5.0
"""Longest connect, and longest silence of the receiver."""
DEADLINE_S = 30.0
"""No try begins later than this after the first."""
BACKOFF_S, BACKOFF_CAP_S = 1.0, 8.0
SECRET_MIN_BYTES = 24
SUCCESS = range(200, 300)
REDIRECTS = range(300, 400)
TEMPORARY = frozenset({408, 425, 429, *range(500, 600)})


class Webhook:
    """An HTTP address that receives notifications.

    Args:
        url: the address, which may contain secrets and is never shown.
        secret: the key of the signatures, in base64, with or without `whsec_`.
        timeout_s: longest connect, and longest silence of the receiver.
        deadline_s: no try begins later than this after the first.
        sleep: waits between tries.
        clock: monotonic seconds.

    Raises:
        Misconfigured: the address or the secret cannot be used.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        timeout_s: float = TIMEOUT_S,
        deadline_s: float = DEADLINE_S,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._signer = _signer(secret)
        self._url = _prepared(url)
        self.host = urlsplit(self._url).netloc.rpartition("@")[2]
        self._timeout_s, self._deadline_s = timeout_s, deadline_s
        self._sleep, self._clock = sleep, clock
        self._rng = Random()  # noqa: S311  # for jitter

    def send(self, notification: Notification) -> None:
        """Send a notification; try again while the failure may be temporary.

        Raises:
            NotSent: no try had success.
        """
        hide_query_strings()
        body = json.dumps(
            {
                "type": notification.type,
                "timestamp": datetime.now(UTC).isoformat(),
                "data": {"text": notification.text, "link": notification.link, **notification.data},
            }
        )
        ends, failures = self._clock() + self._deadline_s, 0
        proxies = requests.utils.get_environ_proxies(self._url)
        with PooledSession(origins=1, connections=1, deadline_s=self._timeout_s, proxies=proxies) as session:
            while True:
                problem, hint_s = self._try(session, notification.id, body)
                if not problem:
                    return
                failures += 1
                wait_s = None if hint_s is None else delay_s(failures, base_s=BACKOFF_S, cap_s=BACKOFF_CAP_S, rng=self._rng, hint_s=hint_s)
                if wait_s is None or self._clock() + wait_s > ends:
                    raise NotSent(f"{self.host} {problem}, in {failures} {'try' if failures == 1 else 'tries'}")
                self._sleep(wait_s)

    def _try(self, session: PooledSession, message_id: str, body: str) -> tuple[str, float | None]:
        """Send once. Return the problem, or an empty text, and the least wait before another try, or None if that has no use."""
        at = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "anomaly",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._signer.sign(message_id, at, body),
        }
        timeout = Timeout(connect=self._timeout_s, read=self._timeout_s)
        request: dict[str, Any] = {"origin": self.host, "headers": headers, "timeout": timeout, "body": body.encode()}
        try:
            with session.open_response("POST", self._url, **request) as response:
                status, hint_s = response.status, wait_hint_s(response.headers) or 0.0
        except REQUEST_ERRORS as exc:
            # Without its text, which quotes the path.
            return f"does not answer ({type(getattr(exc, 'reason', None) or exc).__name__})", 0.0
        if status in SUCCESS:
            return "", None
        problem = f"answers {status}{', and redirects are not followed' if status in REDIRECTS else ''}"
        return problem, hint_s if status in TEMPORARY else None


def _prepared(url: str) -> str:
    request = requests.PreparedRequest()
    with contextlib.suppress(requests.RequestException, ValueError):
        request.prepare(method="POST", url=url, hooks={})
    if not request.url or not request.url.startswith(("http://", "https://")):
        raise Misconfigured("the address of the webhook is not a valid http or https address")
    return request.url


def _signer(secret: str) -> Signer:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < SECRET_MIN_BYTES:
        raise Misconfigured(f"the secret of the webhook must be whsec_ and at least {SECRET_MIN_BYTES} random bytes in base64")
    return Signer(key)
