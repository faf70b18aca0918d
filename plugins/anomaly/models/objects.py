"""Objects of the bucket, and the meaning of their keys."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_IMAGE_KEY = re.compile(
    r"""(?:^|/)(?:images/sha256|(?:answers|heatmaps|unreadable)/[0-9a-f]{64})
        /([0-9a-f]{2})/(?P<sha256>\1[0-9a-f]{62})(?:-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?\.[a-z]+$""",
    re.VERBOSE,
)
_RUN_KEY = re.compile(r"(?:^|/)runs/[^/]+/(?:report\.json)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object in a listing of the bucket."""

    key: str
    written_at: datetime
    size_bytes: int

    @property
    def image_sha256(self) -> str | None:
        """SHA-256 of the image to which it belongs; None if its key has none of the project's forms."""
        found = _IMAGE_KEY.search(self.key)
        return found["sha256"] if found else None

    @property
    def belongs_to_run(self) -> bool:
        """True for the folder or the report of a run."""
        return _RUN_KEY.search(self.key) is not None


def is_json(content: bytes) -> bool:
    """Return whether an object holds a JSON document."""
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True
