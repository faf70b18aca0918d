"""Bombs, good images of every kind, and mutated ones: bounded time and memory, and no errors but ours."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import PngImagePlugin

from anomaly.errors import RecordRejected
from anomaly.images.validation import validated
from tests.parts.fuzzing import fuzz
from tests.parts.image_bombs import bmp, bombs, gif, png, png_chunk
from tests.parts.measure_bombs import code_of

CPU_S = 1.0
MEMORY_BYTES = 300_000_000


def test_each_bomb_has_its_code_in_bounded_time_and_memory() -> None:
    expected = {name: code for name, _, code in bombs()}
    assert len(expected) >= 60

    done = subprocess.run([sys.executable, "-m", "tests.parts.measure_bombs"], capture_output=True, text=True, check=False, timeout=110)

    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert {name: code for name, code, _, _ in results} == expected, done.stderr
    slowest, largest = max(results, key=lambda row: row[2]), max(results, key=lambda row: row[3])
    print(f"{len(results)} bombs; slowest {slowest[0]}: {slowest[2]:.2f} s; largest {largest[0]}: {largest[3] / 1e6:.0f} MB")  # noqa: T201
    assert slowest[2] < CPU_S, slowest
    assert largest[3] < MEMORY_BYTES, largest


def an_image(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    written = io.BytesIO()
    Pillow.effect_noise((60, 40), 60).convert(mode).save(written, kind, **options)
    return written.getvalue()


def several() -> dict[str, Any]:
    return {"save_all": True, "append_images": [Pillow.effect_noise((60, 40), n).convert("RGB") for n in (10, 90)]}


def _interlaced() -> bytes:
    # one pixel is in the first of the seven passes
    content = bytearray(png())
    content[28] = 1
    header = bytes(content[16:29])
    return bytes(content[:8]) + png_chunk(b"IHDR", header) + bytes(content[33:])


def _with_text() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "x" * 2 * 2**20)
    info.add_text("packed", "x" * 2 * 2**20, zip=True)
    return an_image("PNG", pnginfo=info)


GOOD = {
    "jpeg": an_image("JPEG"),
    "jpeg progressive": an_image("JPEG", progressive=True),
    "jpeg cmyk": an_image("JPEG", "CMYK"),
    "jpeg grey": an_image("JPEG", "L"),
    "jpeg profile": an_image("JPEG", icc_profile=bytes(500_000)),
    "mpo": an_image("MPO", **several()),
    "png palette": an_image("PNG", "P"),
    "png 16 bits": an_image("PNG", "I;16"),
    "png one bit": an_image("PNG", "1"),
    "png interlaced": _interlaced(),
    "png profile": an_image("PNG", icc_profile=bytes(3 * 2**20)),
    "png text": _with_text(),
    "png wrong checksum of a text": png(png_chunk(b"tEXt", b"a\0b", crc=1)),
    "png animated": an_image("PNG", **several()),
    "gif": an_image("GIF", "P"),
    "gif animated": an_image("GIF", **several()),
    "gif with a comment": gif(b"!\xfe\3abc\0"),
    "webp": an_image("WEBP"),
    "webp lossless": an_image("WEBP", "RGBA", lossless=True, exif=b"Exif\0\0"),
    "webp animated": an_image("WEBP", **several()),
    "bmp": an_image("BMP"),
    "bmp palette": an_image("BMP", "P"),
    "bmp one bit": an_image("BMP", "1"),
    "bmp run lengths": bmp(60, 40, b"\x3c\1\0\0" * 40 + b"\0\1"),
    "tiff": an_image("TIFF"),
    "tiff pages": an_image("TIFF", **several()),
    "tiff tiles": an_image("TIFF", tiffinfo={322: 16, 323: 16}, compression="tiff_adobe_deflate"),
    "bigtiff": an_image("TIFF", big_tiff=True),
    "tiff float": an_image("TIFF", "F"),
    "tiff fax": an_image("TIFF", "1", compression="group4"),
} | {f"tiff {name}": an_image("TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")}


STRICTER = {"png profile", "png text", "png wrong checksum of a text"}
"""Images that browsers show and Pillow does not open."""


@pytest.mark.parametrize("name", GOOD)
def test_a_good_image_is_accepted_with_its_size(name: str) -> None:
    image = validated(GOOD[name], max_px=1_000_000, source="here")

    with Pillow.open(io.BytesIO(GOOD[name])) if name not in STRICTER else contextlib.nullcontext() as opened:
        expected = opened.size if opened else (image.width_px, image.height_px)
    assert (image.width_px, image.height_px) == expected
    assert image.width_px in {1, 60}


def test_a_wrong_checksum_of_a_picture_is_no_image() -> None:
    assert code_of(png(png_chunk(b"IDAT", b"x", crc=1))) == "image_not_an_image"


@pytest.mark.parametrize("ending", ["avif", "jp2"])
def test_a_format_that_detectors_do_not_take_is_no_image(ending: str) -> None:
    assert code_of(an_image({"avif": "AVIF", "jp2": "JPEG2000"}[ending])) == "image_not_an_image"


NUMBERS = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1", b"\1\0\0\0", b"\xff\xd9", b"\xff\xda"]


@fuzz(
    examples=500,
    seed=st.sampled_from(list(GOOD.values())),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8) | st.sampled_from(NUMBERS)), max_size=6),
    in_head=st.booleans(),
    spliced=st.none() | st.tuples(st.sampled_from(list(GOOD.values())), st.floats(0, 1), st.floats(0, 1), st.integers(1, 50)),
    cut=st.just(1.0) | st.floats(0.1, 1),
)
def test_a_mutated_image_is_accepted_or_rejected_in_bounded_time(
    seed: bytes,
    edits: list[tuple[float, bytes]],
    in_head: bool,  # noqa: FBT001  # a drawn value
    spliced: tuple[bytes, float, float, int] | None,
    cut: float,
) -> None:
    content = bytearray(seed)
    for where, junk in edits:
        at = int(where * (200 if in_head else len(content)))
        content[at : at + len(junk)] = junk
    if spliced:
        other, start, end, times = spliced
        at = int(start * len(content))
        content[at:at] = other[int(start * len(other)) : int(end * len(other))][:5000] * times
    with contextlib.suppress(RecordRejected):
        validated(bytes(content[: int(len(content) * cut)]), max_px=1_000_000, source="here")
