from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reference_detector.dataset import Split, split
from reference_detector.fitting import detector_for
from reference_detector.photo import read_photo

if TYPE_CHECKING:
    from pathlib import Path

    from reference_detector.dataset import Cell
    from reference_detector.detector import Detector

WHOLE = split()
UNSEEN = WHOLE.rest[:300]
FEW = Split(fit=WHOLE.fit[:12], calibrate=WHOLE.calibrate[:12], rest=())


class Watched:
    """Fits detectors and counts the images of each fit."""

    def __init__(self, data: Path) -> None:
        self.data, self.images = data, 0

    def fit(self, cells: Split = FEW) -> Detector:
        self.images = 0
        return detector_for(cells, self.data, progress=self._count)

    def _count(self, done: int, _total: int) -> None:
        self.images = done


def score_of(detector: Detector, cell: Cell) -> float:
    return detector.detect(read_photo(cell.path.read_bytes()), heatmap=False).score


def test_it_separates_unseen_defective_cells_from_normal_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector = detector_for(WHOLE, tmp_path)
    defective = np.array([cell.is_defective for cell in UNSEEN])
    with ThreadPoolExecutor(2) as pool:
        scores = np.array(list(pool.map(lambda cell: score_of(detector, cell), UNSEEN)))
    found = scores > detector.calibration.threshold
    auroc, false_positives, recall = roc_auc_score(defective, scores), found[~defective].mean(), found[defective].mean()
    with capsys.disabled():
        figures = f"AUROC {auroc:.3f}, false positives {false_positives:.1%}, recall {recall:.1%}"
        print(f"\nreference detector on {len(scores)} unseen cells: {figures}")  # noqa: T201 - a figure to watch
    assert auroc >= 0.93
    assert false_positives <= 0.08
    assert recall >= 0.65


def test_a_second_start_fits_nothing_and_scores_the_same(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    first = watched.fit()
    assert watched.images == 24
    second = watched.fit()
    assert watched.images == 0
    assert second.version == first.version
    assert score_of(second, WHOLE.rest[0]) == score_of(first, WHOLE.rest[0])


def test_other_images_are_another_version_and_fitted_anew(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    first = watched.fit()
    second = watched.fit(Split(fit=FEW.fit[1:], calibrate=FEW.calibrate, rest=()))
    assert watched.images == 23
    assert second.version != first.version
    assert [path.name for path in tmp_path.iterdir()] == ["padim.npz"]


@pytest.mark.parametrize("keep", [0, 1000, 200_000])
def test_a_damaged_state_is_fitted_anew(tmp_path: Path, keep: int) -> None:
    watched = Watched(tmp_path)
    first, state = watched.fit(), tmp_path / "padim.npz"
    state.write_bytes(state.read_bytes()[:keep])
    second = watched.fit()
    assert watched.images == 24
    assert score_of(second, WHOLE.rest[0]) == score_of(first, WHOLE.rest[0])


def test_a_state_that_cannot_be_kept_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    assert score_of(Watched(tmp_path / "file").fit(), WHOLE.rest[0]) > 0
    assert "fitted state not written" in caplog.text
