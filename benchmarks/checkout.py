"""Checkouts of the project, so that two versions, or two sets of settings, can be measured in turns."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embedded.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A folder with the project's code, and settings for the processes that run it."""

    root: Path = ROOT
    settings: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Return this environment with the checkout's code and settings, without proxies, which cannot reach this machine's servers."""
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return kept | {"PYTHONPATH": f"{self.root}:{self.root / 'plugins'}", **self.settings}


HERE = Checkout()


def folder_of(text: str) -> Path:
    """Return the folder of a checkout. An argument type for argparse."""
    folder = Path(text).resolve()
    if not (folder / "plugins" / "anomaly").is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no checkout of the project")
    return folder
