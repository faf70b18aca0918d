"""Limits the requests in flight at the detector by what fewer or more of them do to its throughput."""

from __future__ import annotations

import math
from enum import Enum, auto

ROUND_MIN = 8
"""Fewest requests that a latency is measured by."""
UNFINISHED = 0.1
"""Share of a round that need not be answered for the round to end: the slowest ones would hold it up and say little."""
LOWER, RAISE = 0.5, 1.5
"""Factors by which a trial changes the limit."""
THROUGHPUT_KEPT = 0.9
"""A lower limit is kept if the throughput under it is at least this share of the one before."""
PROOFS = 2
"""Trials in a row that have to agree before a lower limit is kept: latencies that vary by themselves may deceive one."""
GAIN_KEPT = 0.5
"""A higher limit is kept if the throughput rises by at least this share of what the limit rises by."""
SLOW_FACTOR, SLOW_MIN_S = 1.5, 0.1
"""Answers that are slower than ever before by this factor and by this time lead to a trial at once."""
HARD_DECREASE = 0.5
STEADY_FACTOR = 1.3
"""A lower limit is tried only after two rounds whose latencies differ by less: nothing can be learned while it varies by itself."""
LOWER_FIRST, LOWER_WAIT, LOWER_WAIT_MAX = 2, 4, 64
"""Rounds before the first trial of a lower limit, before the second, and the most between two; doubles after each one without success."""
TRIAL_MIN_S = 0.3
"""Without a rise of the latency, a lower limit is tried only where answers take at least this long. A shorter queue does no harm, and a
trial costs throughput."""
RAISE_WAIT_MAX = 2
"""Most rounds between two trials of a higher limit, which costs no throughput."""


class Phase(Enum):
    """The purpose of a round."""

    HOLD = auto()
    LOWERED = auto()
    BACK = auto()
    """Measures again at the limit before the trial, so that a change of the detector's own is not taken for an effect of the trial."""
    RAISED = auto()


class Limit:
    """Finds the fewest requests in flight that give the full throughput, by trials.

    Slower answers alone do not tell a queue from work that takes longer: in both, a fixed number of requests in flight is answered at a
    lower rate. What tells them apart is the gradient, the effect of fewer requests on the latency. Little's law (throughput = requests in
    flight / latency) turns two latencies at two limits into a ratio of throughputs. If half as many requests are answered at nearly the
    same rate, the others stood in a queue, and the lower limit is kept; if not, the limit returns and the latency counts as normal. The
    idea is that of the gradient limits of Netflix (concurrency-limits, Gradient2Limit) and of Envoy (adaptive_concurrency, which lowers
    the limit from time to time to measure the latency without a queue). Those compare with the lowest or the average latency of before,
    and so take a detector that has become slower for one that has a queue.

    An explicit overload halves the limit, and then each full round adds one: additive increase and multiplicative decrease lead those who
    share a resource to equal parts of it (Chiu and Jain, 1989). Begins at its ceiling, what the settings say the detector can do.
    """

    def __init__(self, *, ceiling: int) -> None:
        self._ceiling = ceiling
        self.current = ceiling
        """Requests that may be in flight now."""
        self._before = (ceiling, 0.0)
        """The limit before a trial, and its latency."""
        self._lower_in, self._lower_wait = LOWER_FIRST, LOWER_WAIT
        self._raise_in, self._raise_wait = 0, 1
        self._was_overloaded = False
        self._normal_s = 0.0
        """The highest latency that is known not to come from a queue."""
        self._lowered = (ceiling, 0.0)
        """A lower limit on trial, and its latency."""
        self._fell_at = -math.inf
        self._proofs = 0
        self._begin(Phase.HOLD)

    def _begin(self, phase: Phase, limit: float | None = None) -> None:
        self._phase = phase
        self.current = self.current if limit is None else min(self._ceiling, max(1, int(limit)))
        self._size = max(ROUND_MIN, self.current)
        self._joined = self._full = 0
        self._open: set[float] = set()
        self._took: list[float] = []

    def started(self, request: float, *, in_flight: int) -> None:
        """Record a request that began, with which *in_flight* are under way.

        Those of a round are measured, which begins once the limit is reached: what was not tried says nothing.
        """
        if self._joined < self._size and (self._joined or in_flight >= self.current):
            self._joined += 1
            self._full += in_flight >= self.current
            self._open.add(request)

    def answered(self, request: float, took_s: float) -> None:
        """Record a request that was answered in *took_s* seconds."""
        if request in self._open:
            self._open.remove(request)
            self._took.append(took_s)
            self._conclude()

    def dropped(self, request: float) -> None:
        """Record a request that ended without an answer, which says nothing about load."""
        if request in self._open:
            self._open.remove(request)
            self._conclude()

    def overloaded(self, *, began: float, now: float) -> None:
        """Record a request that was refused for lack of capacity. Requests that were under way together count once."""
        if began > self._fell_at:
            self._fell_at = now
            self._proofs = 0
            self._was_overloaded = True
            self._begin(Phase.HOLD, self.current * HARD_DECREASE)

    def _conclude(self) -> None:
        """End the round once nearly all its requests are answered."""
        if self._joined < self._size or len(self._open) > max(1, int(UNFINISHED * self._size)):
            return
        if len(self._took) < self._size / 2 or self._full < self._size / 2:
            self._begin(Phase.HOLD, self._before[0] if self._phase is Phase.LOWERED else None)
            return
        # The slowest tenth is left out, answered or not.
        took_s = sorted(self._took)[: self._size - max(1, int(UNFINISHED * self._size))]
        self._decide(sum(took_s) / len(took_s))

    def _decide(self, took_s: float) -> None:
        (limit, before_s), is_trial = self._before, self._phase in {Phase.LOWERED, Phase.RAISED}
        gain = _throughput(self.current, took_s) / _throughput(limit, before_s) if is_trial else 1.0
        match self._phase:
            case Phase.HOLD:
                self._next_trial(took_s)
            case Phase.LOWERED if gain >= THROUGHPUT_KEPT:
                self._lowered = (self.current, took_s)
                self._begin(Phase.BACK, limit)
            case Phase.BACK if _throughput(*self._lowered) >= THROUGHPUT_KEPT * _throughput(limit, took_s):
                self._proofs += 1
                self._before = (limit, took_s)
                if self._proofs < PROOFS:
                    self._begin(Phase.LOWERED, limit * LOWER)
                else:
                    self._end_trial(wait=LOWER_WAIT, normal_s=0.0)
                    self._lower_in, self._raise_in, self._raise_wait = LOWER_FIRST, RAISE_WAIT_MAX, RAISE_WAIT_MAX
                    self._begin(Phase.HOLD, self._lowered[0])
            case Phase.LOWERED | Phase.BACK:
                self._end_trial(wait=min(LOWER_WAIT_MAX, 2 * self._lower_wait), normal_s=max(self._normal_s, took_s, before_s))
                self._begin(Phase.HOLD, limit)
            case Phase.RAISED if gain >= 1 + GAIN_KEPT * (self.current / limit - 1):
                self._raise_in, self._raise_wait = 0, 1
                self._next_trial(took_s)
            case Phase.RAISED:
                self._raise_in = self._raise_wait = min(RAISE_WAIT_MAX, 2 * self._raise_wait)
                self._begin(Phase.HOLD, limit)

    def _end_trial(self, *, wait: int, normal_s: float) -> None:
        self._proofs = 0
        self._lower_in = self._lower_wait = wait
        self._normal_s = normal_s

    def _next_trial(self, took_s: float) -> None:
        """Begin the next round, a trial if one is due."""
        self._lower_in -= 1
        self._raise_in -= 1
        (limit, before_s), self._before = self._before, (self.current, took_s)
        is_slow = self._normal_s > 0 and took_s > max(SLOW_FACTOR * self._normal_s, self._normal_s + SLOW_MIN_S)
        is_steady = limit == self.current and max(took_s, before_s) < STEADY_FACTOR * min(took_s, before_s)
        self._normal_s = self._normal_s or took_s
        if self._was_overloaded:
            self._was_overloaded = self.current + 1 < self._ceiling
            self._begin(Phase.HOLD, self.current + 1)
        elif (is_slow or (self._lower_in <= 0 and took_s >= TRIAL_MIN_S)) and is_steady and self.current > 1:
            self._begin(Phase.LOWERED, self.current * LOWER)
        elif self.current < self._ceiling and self._raise_in <= 0:
            self._begin(Phase.RAISED, max(self.current + 1, self.current * RAISE))
        else:
            self._begin(Phase.HOLD)


def _throughput(limit: int, took_s: float) -> float:
    """Return the answers a second of *limit* requests in flight (Little's law)."""
    return limit / max(took_s, 1e-6)
