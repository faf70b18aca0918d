"""Runs one task over one record and prints its calls: the child process of `benchmarks.trace`.

It runs in the checkout that is traced, by its path, so that it sees that checkout's packages `anomaly` and `benchmarks`.
"""

from __future__ import annotations

import inspect
import json
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

FIRST, LAST = "open_chunk", "commit"
"""The store's methods whose call begins the trace, and whose return ends it."""
RUNS = 3
"""The last one is traced; the others import and set up what a process keeps."""


class Calls:
    """Records the module and the function of each call, in the order of the calls of all threads."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget the calls so far, and wait for the next record."""
        self.made: list[tuple[str, str]] = []
        self._resumable: set[FrameType] = set()
        self._over = False

    def profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Record a call; a profile function of `sys.setprofile`."""
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if self._over or not module.startswith(("anomaly.", "asyncio.")):
            return
        is_store = module.endswith(".record_store")
        if event == "return" and self.made and is_store and function == LAST:
            self._over = True
        elif event == "call" and (self.made or (is_store and function == FIRST)) and self._is_new(frame):
            self.made.append((module, function))

    def _is_new(self, frame: FrameType) -> bool:
        """Return whether the frame is a function's, and not that of a generator or coroutine that was suspended."""
        flags = frame.f_code.co_flags
        if not flags & inspect.CO_OPTIMIZED:  # the body of a module or a class
            return False
        if flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            if frame in self._resumable:
                return False
            self._resumable.add(frame)
        return True


def main() -> None:
    from benchmarks.contestants import ours  # noqa: PLC0415  # of the checkout that is traced
    from benchmarks.job import Job  # noqa: PLC0415

    job, context = Job.from_json(sys.stdin.read()), ours._context  # noqa: SLF001  # older checkouts offer no other way
    ours.PARAMS["max_records"] = 1
    calls = Calls()
    threading.setprofile(calls.profile)
    sys.setprofile(calls.profile)
    for number in range(RUNS):
        calls.restart()
        ours._context = partial(_in_run, context, f"run {number}")  # noqa: SLF001
        ours.work(job)
    sys.setprofile(None)
    sys.stdout.write(json.dumps(calls.made) + "\n")


def _in_run(context: Callable[..., Any], run_id: str, job: Any, map_index: int) -> Any:
    """Return the context of a task of the run with that id."""
    made = context(job, map_index)
    made["dag_run"].run_id = run_id
    return made


if __name__ == "__main__":
    main()
