"""Processes that decode images: what their death means."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from reference_detector.decoding import Decoder
from reference_detector.errors import DetectorError, ImageTooExpensive, Overloaded
from reference_detector.photo import Photo
from tests.parts.image_bombs import bmp, jpeg

if TYPE_CHECKING:
    from collections.abc import Iterator

DECODED = bmp(60, 40, b"\x3c\1\0\0" * 40 + b"\0\1")


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    decoder = Decoder(processes=2)
    yield decoder
    decoder.close()


def read(decoder: Decoder, *contents: bytes) -> list[Photo | BaseException]:
    async def run() -> list[Photo | BaseException]:
        return await asyncio.gather(*(decoder.read(content, max_px=50_000_000) for content in contents), return_exceptions=True)

    return asyncio.run(run())


def processes() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if "reference_detector.decoding" in process.cmdline()]


def test_a_process_that_ends_for_its_time_fails_its_own_image_alone(decoder: Decoder) -> None:
    bad, *good = read(decoder, jpeg(b"\xff" * 20_000_000), *[DECODED] * 5)

    assert isinstance(bad, ImageTooExpensive)
    assert [(photo.width_px, photo.height_px) for photo in good if isinstance(photo, Photo)] == [(60, 40)] * 5


@pytest.mark.parametrize("executable", ["/bin/false", "/nowhere/python"])
def test_a_process_that_cannot_be_started_is_no_fault_of_the_image(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    monkeypatch.setattr(sys, "executable", executable)

    assert [type(result) for result in read(decoder, DECODED)] == [Overloaded]


def test_a_fault_of_the_program_is_not_blamed_on_the_image(decoder: Decoder) -> None:
    incomparable: Any = Decimal("sNaN")  # raises an exception that no damaged image does

    with pytest.raises(DetectorError) as failed:
        asyncio.run(decoder.read(DECODED, max_px=incomparable))
    assert (failed.value.status, failed.value.code) == (500, "internal_error")


def test_a_process_that_ended_while_it_was_idle_is_replaced(decoder: Decoder) -> None:
    first = read(decoder, DECODED)
    (process,) = processes()
    process.kill()
    process.wait()

    assert [type(result) for result in first + read(decoder, DECODED)] == [Photo, Photo]


def test_close_ends_the_processes() -> None:
    decoder = Decoder(processes=2)
    read(decoder, DECODED, DECODED)
    assert processes()

    decoder.close()
    assert processes() == []
