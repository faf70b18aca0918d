"""An event loop whose steps block: it hands them to the threads of its stages and goes on with what comes back."""

from __future__ import annotations

import heapq
import itertools
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WAIT_S = 1.0
"""However quiet it is, the loop looks around so often."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Something that blocks: on which stage, what, and who goes on with what came of it, on the loop's thread."""

    name: str
    stage: Stage
    action: Callable[[Any], Any]
    then: Callable[[Any, Any], None]
    """Called with the subject and the result."""
    failed: Callable[[Any, BaseException], None]
    """Called with the subject and the error."""


class Stage:
    """At most so many steps at once, in the order in which they were handed over; the rest waits.

    Its threads are daemons and are never waited for: whoever closes a stage has settled what is under way. The
    methods are for the loop's thread.
    """

    def __init__(self, name: str, *, workers: int, deliver: Callable[[Step, Any, Any, BaseException | None], None]) -> None:
        self._name = name
        self._workers = workers
        self._deliver = deliver
        self._jobs: SimpleQueue[tuple[Step, Any] | None] = SimpleQueue()
        self._threads = 0
        self.busy = 0

    def submit(self, step: Step, subject: Any) -> None:
        self.busy += 1
        if self._threads < min(self.busy, self._workers):
            self._threads += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
        self._jobs.put((step, subject))

    def close(self) -> None:
        """Let the threads end after what they are doing."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            step, subject = job
            try:
                result = step.action(subject)
            except BaseException as exc:  # noqa: BLE001  # whatever it is, the loop decides what follows
                self._deliver(step, subject, None, exc)
            else:
                self._deliver(step, subject, result, None)


class Loop:
    """Runs on one thread, which alone may use it; `call_soon` is for any thread and for signal handlers."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._stages: list[Stage] = []

    def stage(self, name: str, *, workers: int) -> Stage:
        """Add a stage of so many threads; they start as they are needed."""
        stage = Stage(name, workers=workers, deliver=self._deliver)
        self._stages.append(stage)
        return stage

    def call_soon(self, event: Callable[[], None]) -> None:
        # SimpleQueue.put is reentrant, so a signal handler may call this at any moment.
        self._events.put(event)

    def call_later(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._later, (self._clock() + delay_s, next(self._order), event))

    @property
    def busy(self) -> bool:
        """Whether a step is under way or waits for its time."""
        return bool(self._later) or any(stage.busy for stage in self._stages)

    def run_once(self, *, wait_s: float = MAX_WAIT_S) -> None:
        """Wait for something to happen, at most so long, and handle all that has."""
        if self._later:
            wait_s = min(wait_s, self._later[0][0] - self._clock())
        try:
            event = self._events.get(timeout=max(0.0, wait_s)) if wait_s > 0 else self._events.get_nowait()
            while True:
                event()
                event = self._events.get_nowait()
        except Empty:
            pass
        while self._later and self._later[0][0] <= self._clock():
            heapq.heappop(self._later)[2]()

    def close(self) -> None:
        for stage in self._stages:
            stage.close()

    def _deliver(self, step: Step, subject: Any, result: Any, error: BaseException | None) -> None:
        self._events.put(lambda: self._received(step, subject, result, error))

    def _received(self, step: Step, subject: Any, result: Any, error: BaseException | None) -> None:
        step.stage.busy -= 1
        if error is None:
            step.then(subject, result)
        else:
            step.failed(subject, error)
