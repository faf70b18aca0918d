"""What the bucket holds, as values: an object, and which image its key speaks of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_OURS = re.compile(
    r"""(?:^|/)(?:images/sha256|(?:answers|heatmaps)/[0-9a-f]{64})
        /([0-9a-f]{2})/(?P<sha256>\1[0-9a-f]{62})(?:-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?\.[a-z]+$""",
    re.VERBOSE,
)
_OF_A_RUN = re.compile(r"(?:^|/)runs/[^/]+/(?:report\.json)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object as a listing of the bucket tells it."""

    key: str
    written_at: datetime
    size_bytes: int

    @property
    def image_sha256(self) -> str | None:
        """The SHA-256 of the image to which it belongs; None where the key is none that we make for one."""
        found = _OURS.search(self.key)
        return found["sha256"] if found else None

    @property
    def belongs_to_run(self) -> bool:
        """Whether it is a run's folder or report."""
        return _OF_A_RUN.search(self.key) is not None
