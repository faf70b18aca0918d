"""The mono cells of the ELPV data set, and which of them the detector may know.

The data set (CC-BY-NC-SA-4.0) comes with the package `elpv-dataset`, a dependency of development and of the demo only.
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
    """The package `elpv-dataset` is not installed, or holds no images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One photo of a solar cell."""

    path: Path
    sha256: str
    probability: float
    """0 when experts saw no defect, 1 when they were sure of one."""

    @property
    def is_defective(self) -> bool:
        return self.probability == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Three lists without a common image."""

    fit: tuple[Cell, ...]
    """Normal cells that the detector learns from."""
    calibrate: tuple[Cell, ...]
    """Other normal cells, which set its threshold."""
    rest: tuple[Cell, ...]
    """Normal and defective cells, mixed, that the detector has never seen."""


def split(*, seed: int = 0, root: Path | None = None) -> Split:
    """The cells in three lists, disjoint by SHA-256, the same for the same seed; no image is decoded.

    Raises:
        DatasetMissing: the package is not installed.
    """
    cells = sorted(_distinct(_sure_mono_cells(root or data_folder())), key=lambda cell: cell.sha256)
    rng = random.Random(seed)  # noqa: S311 - it mixes, it keeps no secret
    normal = [cell for cell in cells if not cell.is_defective]
    rng.shuffle(normal)
    rest = normal[FIT + CALIBRATE :] + [cell for cell in cells if cell.is_defective]
    rng.shuffle(rest)
    return Split(fit=tuple(normal[:FIT]), calibrate=tuple(normal[FIT : FIT + CALIBRATE]), rest=tuple(rest))


def data_folder() -> Path:
    """Where the installed package keeps `labels.csv` and the images.

    Raises:
        DatasetMissing: the package is not installed.
    """
    spec = find_spec("elpv_dataset")
    folder = Path(spec.origin).parent / "data" if spec and spec.origin else None
    if folder is None or not (folder / "labels.csv").is_file():
        raise DatasetMissing("the package elpv-dataset is not installed: install requirements-dev.txt")
    return folder


def _sure_mono_cells(root: Path) -> Iterator[Cell]:
    """The monocrystalline cells on which the experts agreed."""
    for line in (root / "labels.csv").read_text().splitlines():
        path, probability, kind = line.split()
        if kind == "mono" and float(probability) in (0, 1):
            content = (root / path).read_bytes()
            yield Cell(path=root / path, sha256=hashlib.sha256(content).hexdigest(), probability=float(probability))


def _distinct(cells: Iterator[Cell]) -> Iterator[Cell]:
    """Each image once; one whose copies are labelled differently not at all."""
    by_digest: dict[str, list[Cell]] = {}
    for cell in cells:
        by_digest.setdefault(cell.sha256, []).append(cell)
    return (copies[0] for copies in by_digest.values() if len({copy.probability for copy in copies}) == 1)
