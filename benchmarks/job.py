"""What a contestant is told, and what it tells when it is through."""

from __future__ import annotations

import dataclasses
import json
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

TIMEOUT_S = 30
"""Of the contestants' requests, but for ours."""
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Records to work, and where everything is. Ports are of this machine."""

    contestant: str
    dsn: str
    images_url: str
    detector_url: str
    s3_url: str
    bucket: str
    records: int
    slots: int
    tasks: int = 1
    """Processes among which the slots are split."""
    requests_per_minute: float | None = None
    """What the detector grants, and its connection states."""
    log_file: str = "/dev/null"
    folder: str = ""
    """Scratch."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What the work took, imports excluded."""

    wall_s: float
    processor_s: float
    """User and system time of the contestant and of the processes that it started."""
    rss_mb: float
    """Peak of one process, its imports included."""
    more: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def peak_rss_mb() -> float:
    """The most memory that this process has held. `ru_maxrss` would count what its parent held when it was started."""
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024
