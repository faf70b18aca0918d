"""The job of a contestant, and its effort."""

from __future__ import annotations

import dataclasses
import json
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

TIMEOUT_S = 30
"""Timeout of the requests of all contestants except the project's."""
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The number of records and the addresses of all servers."""

    contestant: str
    dsn: str
    images_url: str
    detector_url: str
    s3_url: str
    bucket: str
    records: int
    slots: int
    tasks: int = 1
    """Processes that share the slots."""
    requests_per_minute: float | None = None
    """The detector's quota, which its connection states."""
    log_file: str = "/dev/null"
    folder: str = ""
    """Folder for temporary files."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Time and memory that the work took, without imports."""

    wall_s: float
    processor_s: float
    """User and system time of the contestant and its child processes."""
    rss_mb: float
    """Peak of one process, including its imports."""
    more: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def peak_rss_mb() -> float:
    """Return the peak memory of this process. `ru_maxrss` would include memory of its parent before `exec`."""
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024
