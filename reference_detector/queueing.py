"""A bounded pool of threads, and a bounded cache of answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from reference_detector.errors import KeyReused, Overloaded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

T = TypeVar("T")


class BoundedPool:
    """A thread pool with a bounded queue, for one event loop."""

    def __init__(self, *, workers: int, queue: int) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="inference")
        self._room = workers + queue

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Take a place in the queue, for everything that is done about an image.

        Raises:
            Overloaded: the queue is full.
        """
        if self._room == 0:
            raise Overloaded("the queue of images is full")
        self._room -= 1
        try:
            yield
        finally:
            self._room += 1

    async def run(self, work: Callable[[], T]) -> T:
        """Run *work* on one of the threads and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """End the threads. Queued work is cancelled."""
        self._threads.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Asked(Generic[T]):
    question: str
    answer: asyncio.Future[T]


class AnswersByKey(Generic[T]):
    """The latest answers by idempotency key, pending ones included. Failures are not kept."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._asked: OrderedDict[str, _Asked[T]] = OrderedDict()

    async def get(self, key: str, question: str, ask: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """Return the answer, and whether an earlier request with the key asked for it.

        Raises:
            KeyReused: the earlier request had another image or other parameters.
        """
        earlier = self._asked.get(key)
        if earlier is None:
            return await asyncio.shield(self._begin(key, question, ask)), False
        if earlier.question != question:
            raise KeyReused("this Idempotency-Key was used with another image or other parameters")
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
