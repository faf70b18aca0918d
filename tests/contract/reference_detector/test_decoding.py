"""Processes that decode images: what their death means."""

from __future__ import annotations

import asyncio
import gc
import sys
import warnings
from typing import TYPE_CHECKING

from reference_detector.decoding import Decoder
from reference_detector.errors import ImageTooExpensive, Overloaded
from reference_detector.photo import Photo
from tests.parts.image_bombs import bmp, jpeg

if TYPE_CHECKING:
    import pytest

FALSE = "/bin/false"
DECODED = bmp(60, 40, b"\x3c\1\0\0" * 40 + b"\0\1")


def read(*contents: bytes) -> list[Photo | BaseException]:
    async def run() -> list[Photo | BaseException]:
        decoder = Decoder(processes=2)
        return await asyncio.gather(*(decoder.read(content, max_px=50_000_000) for content in contents), return_exceptions=True)

    try:
        return asyncio.run(run())
    finally:
        # anyio leaves the pipes of a process that did not start to the collector, which would warn in any later test.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def test_a_process_that_ends_for_its_time_fails_its_own_image_alone() -> None:
    bad, *good = read(jpeg(b"\xff" * 20_000_000), *[DECODED] * 5)

    assert isinstance(bad, ImageTooExpensive)
    assert [(photo.width_px, photo.height_px) for photo in good if isinstance(photo, Photo)] == [(60, 40)] * 5


def test_a_process_that_cannot_be_started_is_no_fault_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", FALSE)

    assert [type(result) for result in read(DECODED)] == [Overloaded]
