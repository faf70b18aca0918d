"""Bounds: how many images wait, and how many answers are remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from reference_detector.errors import KeyReused, Overloaded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class BoundedPool:
    """Threads with a queue that refuses instead of growing; belongs to one event loop."""

    def __init__(self, *, workers: int, queue: int) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="inference")
        self._room = workers + queue

    async def run(self, work: Callable[[], T]) -> T:
        """What *work* returns, done by one of the threads.

        Raises:
            Overloaded: the queue is full; nothing was started.
        """
        if self._room == 0:
            raise Overloaded("as many images wait as may wait")
        self._room -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._room += 1

    def close(self) -> None:
        """End the threads; what waits is not done any more."""
        self._threads.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Asked(Generic[T]):
    question: str
    answer: asyncio.Future[T]


class AnswersByKey(Generic[T]):
    """The latest answers by their idempotency keys, those under way included; failures are not remembered."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._asked: OrderedDict[str, _Asked[T]] = OrderedDict()

    async def get(self, key: str, question: str, ask: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The answer, and whether it is that of an earlier request with the same key.

        Raises:
            KeyReused: the earlier request asked another question.
        """
        earlier = self._asked.get(key)
        if earlier is None:
            return await asyncio.shield(self._begin(key, question, ask)), False
        if earlier.question != question:
            raise KeyReused("this Idempotency-Key came before, with another image or another question")
        return await asyncio.shield(earlier.answer), True

    def _begin(self, key: str, question: str, ask: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        asked = _Asked(question, asyncio.ensure_future(ask()))
        self._asked[key] = asked
        asked.answer.add_done_callback(lambda answer: self._forget_failure(key, answer))
        while len(self._asked) > self._size:
            self._asked.popitem(last=False)
        return asked.answer

    def _forget_failure(self, key: str, answer: asyncio.Future[T]) -> None:
        failed = answer.cancelled() or answer.exception() is not None
        if failed and key in self._asked and self._asked[key].answer is answer:
            del self._asked[key]
