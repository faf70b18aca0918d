"""Tests of the benchmarks' images, latency and plot, without servers."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from benchmarks import plot, run
from benchmarks.http_server import RoundTrip
from benchmarks.images import Photos, number_of

if TYPE_CHECKING:
    from pathlib import Path


def test_each_photo_is_a_whole_jpeg_of_about_the_given_size_that_carries_its_number() -> None:
    photos = Photos(100_000)
    one, other = (b"".join(photos.pieces(number)) for number in (1, 987_654))
    with Image.open(io.BytesIO(other)) as opened:
        opened.load()
        assert opened.format == "JPEG"
    assert len(one) == len(other) == photos.size == pytest.approx(100_000, rel=0.05)
    assert (number_of(one), number_of(other)) == (1, 987_654)


def test_first_words_travel_twice_and_none_overtakes_another() -> None:
    round_trip = RoundTrip()
    round_trip.seconds = 0.02
    first = round_trip.due(10.0, 0.0)
    assert first == pytest.approx(10.04)
    assert round_trip.due(10.001, first) == first
    assert round_trip.due(11.0, first) == pytest.approx(11.02)


def test_the_plot_shows_the_median_of_each_contestant_and_the_bound(tmp_path: Path) -> None:
    rows = [
        {"contestant": name, "slots": slots, "records_per_s": rate, "of_bound": rate / (slots * 5)}
        for name, slots, rate in [("ours", 16, 70.0), ("ours", 16, 79.0), ("ours", 16, 78.0), ("ours", 32, 150.0), ("asyncio", 16, 75.0)]
    ]
    plot.draw(rows, tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    assert all(name in drawn for name in (">ours<", ">asyncio<", "the detector's bound"))
    assert plot.lines(rows) == {"ours": {16: 78.0, 32: 150.0}, "asyncio": {16: 75.0}}


def test_an_unknown_contestant_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--contestants", "ours,theirs"])
    assert "there is no contestant theirs" in capsys.readouterr().err
