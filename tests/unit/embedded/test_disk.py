"""A disk that is full is named, whatever a program said about it."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

from embedded import disk

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_full_disk_is_named_by_the_folder_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * 2**20))
    assert (
        disk.shortage(tmp_path / "not" / "there") == f"the disk that holds {tmp_path} is full (3 MB left): free some space and start again"
    )


def test_a_disk_with_space_is_not_mentioned(tmp_path: Path) -> None:
    assert disk.shortage(tmp_path) == ""
