"""Reads the monocrystalline cells of the ELPV data set and splits them into those to fit, to calibrate and to judge.

The data set (CC-BY-NC-SA-4.0) is in the package `elpv-dataset`, which only development and the demo depend on.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FIT = 180
CALIBRATE = 160


class DatasetMissing(Exception):
    """Raised when the package `elpv-dataset` is not installed, or has no images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One photo of a solar cell."""

    path: Path
    sha256: str
    probability: float
    """The label: 0 if experts saw no defect, 1 if they were certain of one."""

    @property
    def is_defective(self) -> bool:
        return self.probability == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Three disjoint lists of images."""

    fit: tuple[Cell, ...]
    """Normal cells that the detector is fitted to."""
    calibrate: tuple[Cell, ...]
    """Other normal cells, which set its threshold."""
    rest: tuple[Cell, ...]
    """Normal and defective cells in random order, which the detector has not seen."""


def split(*, seed: int = 0, root: Path | None = None) -> Split:
    """Return the cells in three lists, disjoint by SHA-256 and determined by *seed*. No image is decoded.

    Raises:
        DatasetMissing: the package is not installed.
    """
    cells = sorted(_distinct(_sure_mono_cells(root or data_folder())), key=lambda cell: cell.sha256)
    rng = random.Random(seed)  # noqa: S311 - no secret depends on it
    normal = [cell for cell in cells if not cell.is_defective]
    rng.shuffle(normal)
    rest = normal[FIT + CALIBRATE :] + [cell for cell in cells if cell.is_defective]
    rng.shuffle(rest)
    return Split(fit=tuple(normal[:FIT]), calibrate=tuple(normal[FIT : FIT + CALIBRATE]), rest=tuple(rest))


def data_folder() -> Path:
    """Return the folder of the installed package with `labels.csv` and the images.

    Raises:
        DatasetMissing: the package is not installed.
    """
    spec = find_spec("elpv_dataset")
    folder = Path(spec.origin).parent / "data" if spec and spec.origin else None
    if folder is None or not (folder / "labels.csv").is_file():
        raise DatasetMissing("the package elpv-dataset is not installed: install requirements-demo.txt")
    return folder


def _sure_mono_cells(root: Path) -> Iterator[Cell]:
    """Yield the monocrystalline cells with a certain label."""
    for line in (root / "labels.csv").read_text().splitlines():
        path, probability, kind = line.split()
        if kind == "mono" and float(probability) in (0, 1):
            content = (root / path).read_bytes()
            yield Cell(path=root / path, sha256=hashlib.sha256(content).hexdigest(), probability=float(probability))


def _distinct(cells: Iterator[Cell]) -> Iterator[Cell]:
    """Return each image once, without those whose copies have different labels."""
    by_digest: dict[str, list[Cell]] = {}
    for cell in cells:
        by_digest.setdefault(cell.sha256, []).append(cell)
    return (copies[0] for copies in by_digest.values() if len({copy.probability for copy in copies}) == 1)
