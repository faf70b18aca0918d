from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from reference_detector.calibration import Calibration
from reference_detector.dataset import CALIBRATE, FIT, DatasetMissing, data_folder, split
from reference_detector.errors import DetectorError, ImageTooManyPixels, ImageUnreadable, KeyReused, MediaTypeUnsupported
from reference_detector.padim import Gaussians, embedding, image_score
from reference_detector.photo import SIDE_PX, read_photo
from reference_detector.picture import HEATMAP_SIDE_PX, heatmap_png, regions_of
from reference_detector.queueing import AnswersByKey
from tests.parts.fuzzing import fuzz

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(7)
CALIBRATION = Calibration(np.arange(1.0, 101.0))


def encoded(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


PIXELS = RNG.integers(0, 100, (60, 40), dtype=np.uint8)
IMAGES = {kind: encoded(PIXELS, kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP")}


def claiming(width: int, height: int) -> bytes:
    """Return a PNG whose header states a larger size."""
    png = IMAGES["PNG"]
    header = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


# the data set


def test_the_three_lists_have_no_image_in_common() -> None:
    parts = split()
    digests = [{hashlib.sha256(cell.path.read_bytes()).hexdigest() for cell in cells} for cells in (parts.fit, parts.calibrate, parts.rest)]
    assert [len(part) for part in digests] == [FIT, CALIBRATE, len(parts.rest)]
    assert not digests[0] & digests[1]
    assert not (digests[0] | digests[1]) & digests[2]


def test_only_normal_cells_are_fitted_and_calibrated_and_all_defective_ones_are_left() -> None:
    parts = split()
    assert not any(cell.is_defective for cell in (*parts.fit, *parts.calibrate))
    assert sum(cell.is_defective for cell in parts.rest) == 313
    assert len(parts.fit) + len(parts.calibrate) + len(parts.rest) == 588 + 313


def test_the_split_depends_on_its_seed_alone_and_mixes_the_labels() -> None:
    assert split() == split()
    assert split(seed=1).fit != split().fit
    assert 80 < sum(cell.is_defective for cell in split().rest[:200]) < 140


def test_copies_of_an_image_count_once_and_not_at_all_when_their_labels_differ(tmp_path: Path) -> None:
    contents = {"a.png": b"twice", "b.png": b"twice", "c.png": b"disputed", "d.png": b"disputed", "e.png": b"unsure", "f.png": b"poly"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    labels = ["a.png 1.0 mono", "b.png 1.0 mono", "c.png 0.0 mono", "d.png 1.0 mono", "e.png 0.333 mono", "f.png 1.0 poly"]
    (tmp_path / "labels.csv").write_text("\n".join(labels))
    parts = split(root=tmp_path)
    assert [cell.path.name for cell in (*parts.fit, *parts.calibrate, *parts.rest)] == ["a.png"]


def test_a_missing_data_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(__import__("sys").modules, "elpv_dataset", raising=False)
    with pytest.raises(DatasetMissing, match="elpv-dataset is not installed"):
        data_folder()


# PaDiM


def test_distances_are_those_of_mahalanobis() -> None:
    normal = RNG.normal(size=(200, 4, 3)).astype(np.float32) * np.array([1, 5, 25], np.float32)
    gaussians, image = Gaussians.fitted(normal), RNG.normal(size=(4, 3)).astype(np.float32) * 30
    expected = []
    for position in range(4):
        covariance = np.cov(normal[:, position].T) + 0.01 * np.eye(3)
        off = image[position] - normal[:, position].mean(axis=0)
        expected.append(np.sqrt(off @ np.linalg.inv(covariance) @ off))
    np.testing.assert_allclose(gaussians.distances(image), np.reshape(expected, (2, 2)), rtol=1e-3)


def test_fewer_images_than_channels_can_be_fitted() -> None:
    gaussians = Gaussians.fitted(RNG.normal(size=(3, 4, 16)).astype(np.float32))
    assert np.isfinite(gaussians.distances(np.ones((4, 16), np.float32))).all()


def test_an_embedding_has_the_chosen_channels_of_both_maps_with_the_coarse_one_grown() -> None:
    fine, coarse = np.zeros((2, 4, 4), np.float32), np.zeros((1, 2, 2), np.float32)
    fine[1], coarse[0, 1, 1] = 3, 9
    both = embedding(fine, coarse, np.array([1, 2]))
    assert both.shape == (16, 2)
    assert (both[:, 0] == 3).all()
    assert both[15, 1] == pytest.approx(9)
    assert both[0, 1] == 0
    assert both[5, 1] == pytest.approx(1)  # one of its nine neighbours


def test_the_image_score_is_the_mean_of_the_top_percent() -> None:
    distances = np.ones((20, 20), np.float32)
    distances[3, 3:7] = (5, 6, 7, 8)
    assert image_score(distances) == pytest.approx(6.5)


# calibration


def test_two_percent_of_the_normal_images_pass_the_threshold() -> None:
    assert (CALIBRATION.scores > CALIBRATION.threshold).mean() == pytest.approx(0.02)


@pytest.mark.parametrize(("score", "p"), [(0, 1.0), (100, 2 / 101), (100.5, 1 / 101), (51, 51 / 101)])
def test_the_p_value_counts_the_normal_images_that_score_as_high(score: float, p: float) -> None:
    assert CALIBRATION.p_value(score) == pytest.approx(p)


def test_the_p_values_of_normal_images_are_no_smaller_than_they_say() -> None:
    drawn = RNG.normal(size=(2000, 21))
    p_values = np.array([Calibration(np.sort(row[1:])).p_value(row[0]) for row in drawn])
    for level in (0.1, 0.25, 0.5):
        assert (p_values <= level).mean() <= level + 0.02


def test_the_robust_z_is_in_standard_deviations_and_ignores_a_few_wild_scores() -> None:
    scores = RNG.normal(10, 2, size=5000)
    scores[:100] = 1e6
    assert Calibration(np.sort(scores)).robust_z(14) == pytest.approx(2, abs=0.15)


# regions and heat map


def test_regions_are_in_pixels_of_the_original_and_the_worst_comes_first() -> None:
    smooth = np.zeros((10, 10), np.float32)
    smooth[0:2, 0:3], smooth[5, 9], smooth[8, 2] = 6, 9, 4.5
    found = regions_of(smooth, threshold=5, width_px=300, height_px=100)
    assert [(r.x, r.y, r.width, r.height, r.score) for r in found] == [(270, 50, 30, 10, 9.0), (0, 0, 90, 20, 6.0)]


@pytest.mark.parametrize(("width", "height", "size"), [(1000, 500, (256, 128)), (30, 60, (30, 60)), (9000, 1, (256, 1))])
def test_the_heat_map_has_the_proportions_of_the_image(width: int, height: int, size: tuple[int, int]) -> None:
    png = heatmap_png(np.zeros((32, 32), np.float32), CALIBRATION, width_px=width, height_px=height)
    assert Image.open(io.BytesIO(png)).size == size


def test_the_heat_map_shows_through_where_all_is_usual_and_warms_with_the_distance() -> None:
    smooth = np.full((32, 32), CALIBRATION.median, np.float32)
    smooth[:, 10:20], smooth[:, 20:] = CALIBRATION.threshold, 1000
    png = heatmap_png(smooth, CALIBRATION, width_px=300, height_px=300)
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    usual, at_threshold, far = (np.array(picture.getpixel((x, 100))) for x in (20, 120, 240))
    assert usual[3] == 0
    assert at_threshold[3] > 100
    assert far[3] > at_threshold[3]
    assert at_threshold[0] - at_threshold[1] > 100  # red
    assert far[1] > 200  # yellow


def test_a_heat_map_is_small() -> None:
    noise = RNG.uniform(0, 200, (32, 32)).astype(np.float32)
    assert len(heatmap_png(noise, CALIBRATION, width_px=HEATMAP_SIDE_PX, height_px=HEATMAP_SIDE_PX)) < 32_000


# photos


@pytest.mark.parametrize("kind", IMAGES)
def test_each_format_is_read_to_the_same_square_with_the_size_of_the_original(kind: str) -> None:
    photo = read_photo(IMAGES[kind])
    assert photo.pixels.shape == (SIDE_PX, SIDE_PX)
    assert (photo.width_px, photo.height_px) == (40, 60)


def test_the_exposure_does_not_matter() -> None:
    bright = read_photo(encoded(PIXELS * 2)).pixels.astype(int)
    assert abs(bright - read_photo(IMAGES["PNG"]).pixels).max() <= 3


def test_sixteen_bits_are_not_clipped() -> None:
    file = io.BytesIO()
    Image.fromarray(PIXELS.astype(np.uint16) * 600).save(file, "TIFF")
    deep = read_photo(file.getvalue()).pixels.astype(int)
    assert abs(deep - read_photo(IMAGES["PNG"]).pixels).max() <= 2


def test_an_even_image_is_no_error() -> None:
    assert (read_photo(encoded(np.zeros((9, 9), np.uint8))).pixels == 127).all()


@pytest.mark.parametrize("size", [(8000, 7000), (10_000, 10_000), (60_000, 60_000)])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooManyPixels):
        read_photo(claiming(*size))


@pytest.mark.parametrize("kind", IMAGES)
def test_half_an_image_is_unreadable(kind: str) -> None:
    half = len(IMAGES[kind]) // 2
    with pytest.raises((ImageUnreadable, MediaTypeUnsupported) if kind in ("TIFF", "WEBP") else ImageUnreadable):
        read_photo(IMAGES[kind][:half])


def test_a_page_is_no_image() -> None:
    with pytest.raises(MediaTypeUnsupported):
        read_photo(b"<!doctype html><title>not found</title>")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damaged metadata, which nobody reads here
@fuzz(
    examples=150,
    kind=st.sampled_from(sorted(IMAGES)),
    end=st.floats(0, 1),
    damage=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
)
def test_damage_of_any_kind_is_an_error_of_ours_or_none(kind: str, end: float, damage: list[tuple[float, int]]) -> None:
    content = bytearray(IMAGES[kind])
    for where, value in damage:
        content[int(where * (len(content) - 1))] = value
    with contextlib.suppress(DetectorError):
        read_photo(bytes(content[: round(end * len(content))]))


# answers by key


def test_an_answer_is_remembered_until_newer_ones_take_its_place() -> None:
    asked: list[str] = []

    async def story() -> list[tuple[str, bool]]:
        answers = AnswersByKey[str](2)

        async def get(key: str) -> tuple[str, bool]:
            async def ask() -> str:
                asked.append(key)
                return f"answer {len(asked)}"

            return await answers.get(key, "question", ask)

        return [await get(key) for key in ("a", "a", "b", "c", "a")]

    assert asyncio.run(story()) == [("answer 1", False), ("answer 1", True), ("answer 2", False), ("answer 3", False), ("answer 4", False)]


def test_a_failure_is_not_remembered_and_another_question_is_refused() -> None:
    async def story() -> None:
        answers = AnswersByKey[str](2)

        async def fail() -> str:
            raise ImageUnreadable("damaged")

        async def succeed() -> str:
            return "fine"

        with pytest.raises(ImageUnreadable):
            await answers.get("a", "question", fail)
        assert await answers.get("a", "question", succeed) == ("fine", False)
        with pytest.raises(KeyReused):
            await answers.get("a", "another", succeed)

    asyncio.run(story())
