"""Fuzz tests: the same few examples in each run, and new ones for FUZZ_S seconds with `bin/test fuzz`."""

from __future__ import annotations

import functools
import gc
import logging
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

if TYPE_CHECKING:
    from collections.abc import Callable

FUZZ_S = float(os.environ.get("FUZZ_S", "0"))
"""Seconds for each test; 0 for the examples of the default suite."""
EXAMPLES_PER_ROUND = 1000
CPU_S_MAX = 5.0
"""Processor time of one example."""
GROWTH_MAX_BYTES = 48 * 2**20
"""Growth of the process between the first third of a long run and its end."""
if FUZZ_S:
    logging.disable()  # pytest would keep what each of a million examples logs
_HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def _settings(examples: int) -> settings:
    return settings(
        max_examples=EXAMPLES_PER_ROUND if FUZZ_S else examples, deadline=None, derandomize=not FUZZ_S, suppress_health_check=_HEALTH
    )


def fuzz(*strategies: Any, examples: int = 300, **named_strategies: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test with drawn values, as hypothesis' `given` does, and check the processor time of each example.

    Without FUZZ_S it runs *examples* examples, the same each time. With FUZZ_S it draws new ones until the time is over, and then
    checks that the process has not grown. Keep an example that failed as an `@example` below this decorator.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        seen = _Seen()

        @functools.wraps(test)
        def timed(*args: Any, **kwargs: Any) -> None:
            began = time.thread_time()
            test(*args, **kwargs)
            seen.count(time.thread_time() - began)

        draw: Any = given  # its overloads do not take arguments of both kinds
        drawn = _settings(examples)(draw(*strategies, **named_strategies)(timed))

        @functools.wraps(drawn)
        def run(*args: Any, **kwargs: Any) -> None:
            began, before = time.monotonic(), 0
            while True:
                drawn(*args, **kwargs)
                elapsed_s = time.monotonic() - began
                if elapsed_s >= FUZZ_S:
                    break
                if not before and elapsed_s > FUZZ_S / 3:
                    before = _resident_bytes()
            if FUZZ_S:
                grown = _resident_bytes() - before if before else 0
                print(f"{test.__name__}: {seen.examples} examples, the longest {seen.longest_s:.2f} s, grown by {grown / 2**20:.1f} MiB")  # noqa: T201
                assert grown < GROWTH_MAX_BYTES

        marked: Callable[..., None] = pytest.mark.fuzz(run)
        return marked

    return decorate


class _Seen:
    def __init__(self) -> None:
        self.examples, self.longest_s = 0, 0.0

    def count(self, cpu_s: float) -> None:
        self.examples, self.longest_s = self.examples + 1, max(self.longest_s, cpu_s)
        assert cpu_s < CPU_S_MAX


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
