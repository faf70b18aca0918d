"""The retry policy of downloads."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from urllib3.exceptions import MaxRetryError
from urllib3.util.retry import Retry

from anomaly import backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from urllib3 import BaseHTTPResponse

log = logging.getLogger(__name__)

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
ACCEPTED = 202
"""With Retry-After: the image is still being made."""
BACKOFF_CAP_S = 60.0
"""Longest delay that we choose. Delays double from one to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDelays:
    """The delays before retries of a download, in seconds."""

    base_s: float
    retry_after_cap_s: float
    sleep: Callable[[float], None]
    rng: Random
    on_retry: Callable[[], None] = lambda: None
    """Called before each retry."""


class ImageRetry(Retry):
    """urllib3's Retry that waits 1, 2, 4 s (the stock one begins with 0) through an injected sleep."""

    RETRY_AFTER_STATUS_CODES = frozenset()  # RETRIED_STATUSES decides

    def __init__(self, *args: Any, delays: RetryDelays, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.delays = delays

    def new(self, **changes: Any) -> Self:
        return super().new(delays=self.delays, **changes)

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:  # noqa: FBT001, FBT002  # urllib3's signature
        """Return whether to ask again, also for an image that is still being made."""
        return super().is_retry(method, status_code, has_retry_after) or (status_code == ACCEPTED and has_retry_after)

    def increment(
        self, method: str | None = None, url: str | None = None, response: BaseHTTPResponse | None = None, *args: Any, **kwargs: Any
    ) -> Self:
        if _hint_s(response) > self.delays.retry_after_cap_s:
            raise MaxRetryError(kwargs["_pool"], url or "")  # an earlier request than asked would be refused again
        return super().increment(method, url, response, *args, **kwargs)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        delays, failures = self.delays, len(self.history)
        wait_s = backoff.delay_s(failures, base_s=delays.base_s, cap_s=BACKOFF_CAP_S, rng=delays.rng, hint_s=_hint_s(response))
        cause = self.history[-1].status or type(self.history[-1].error).__name__
        log.info("image request failed cause=%s failures=%d wait_s=%.2f", cause, failures, wait_s)
        delays.on_retry()
        delays.sleep(wait_s)


def _hint_s(response: BaseHTTPResponse | None) -> float:
    return (backoff.retry_after_s(response.headers) if response else None) or 0.0
