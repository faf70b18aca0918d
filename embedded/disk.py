"""Tells whether a disk is full, since the errors of programs that meet a full disk rarely do."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LOW_BYTES = 32 * 2**20
"""Postgres reserves 16 MB for each segment of its log."""


def shortage(folder: Path) -> str:
    """Return a sentence if the disk that holds *folder* is full; empty if it is not."""
    while not folder.exists():
        folder = folder.parent
    left = shutil.disk_usage(folder).free
    return f"the disk that holds {folder} is full ({left / 2**20:.0f} MB left): free some space and start again" if left < LOW_BYTES else ""
