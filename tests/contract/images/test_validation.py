from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from PIL import Image as Pillow

from anomaly.errors import ImageNotAnImage, ImageTooManyPixels, ImageTruncated, RecordRejected
from anomaly.images.validation import validated
from tests.parts.fuzzing import fuzz

if TYPE_CHECKING:
    from anomaly.models.records import Image

KINDS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif", "BMP": "image/bmp", "TIFF": "image/tiff"}


def an_image(kind: str, size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    written = io.BytesIO()
    Pillow.effect_noise(size, 60).save(written, kind, **options)
    return written.getvalue()


def judged(content: bytes, *, max_px: int = 1_000_000) -> Image:
    return validated(content, max_px=max_px, source="here")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_image_is_recognised_by_its_content(kind: str) -> None:
    image = judged(an_image(kind))

    assert (image.media_type, image.width_px, image.height_px) == (KINDS[kind], 60, 40)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_an_image_that_was_cut_is_truncated(kind: str, part: float) -> None:
    whole = an_image(kind)
    with pytest.raises(ImageTruncated):
        judged(whole[: int(len(whole) * part)])


@pytest.mark.parametrize(("kind", "missing"), [("JPEG", 100), ("PNG", 2)])
def test_a_little_that_is_missing_at_the_end_is_missed(kind: str, missing: int) -> None:
    with pytest.raises(ImageTruncated):
        judged(an_image(kind)[:-missing])


def test_a_progressive_jpeg_is_missed_from_any_of_its_scans() -> None:
    whole = an_image("JPEG", progressive=True)
    scans = [at for at in range(len(whole)) if whole.startswith(b"\xff\xda", at)]

    assert len(scans) > 1
    for scan in scans:
        with pytest.raises(ImageTruncated):
            judged(whole[: scan + 20])


def test_a_jpeg_with_a_whole_thumbnail_inside_is_truncated_all_the_same() -> None:
    exif = Pillow.Exif()
    exif[0x010E] = "x"
    thumbnail = b"Exif\0\0" + an_image("JPEG", (16, 16))
    whole = an_image("JPEG", exif=thumbnail)

    assert judged(whole).width_px == 60
    with pytest.raises(ImageTruncated):
        judged(whole[: -len(whole) // 4])


@pytest.mark.parametrize("rest", [b"\0" * 64, b"\xff\xda and what a camera appends", b"\r\n"])
def test_bytes_after_an_image_do_not_matter(rest: bytes) -> None:
    assert judged(an_image("JPEG") + rest).media_type == "image/jpeg"
    assert judged(an_image("PNG") + rest).media_type == "image/png"


def test_a_jpeg_that_more_images_follow_is_a_jpeg() -> None:
    written = io.BytesIO()
    first, second = Pillow.effect_noise((60, 40), 60), Pillow.effect_noise((20, 20), 60)
    first.save(written, "MPO", save_all=True, append_images=[second])

    assert judged(written.getvalue()).media_type == "image/jpeg"


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"<html></html>", b"GIF89a", b"%PDF-1.4", b"%!PS-Adobe-3.0 EPSF-3.0", b"\x89PNG" + b"\0" * 90]
)
def test_what_is_no_image_is_none(content: bytes) -> None:
    with pytest.raises(ImageNotAnImage):
        judged(content)


def test_a_png_with_a_damaged_byte_is_no_image() -> None:
    content = bytearray(an_image("PNG"))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(ImageNotAnImage, match="broken"):
        judged(bytes(content))


def test_too_many_pixels_are_refused_by_the_header_alone() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\0IDAT"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageTooManyPixels, match="100000 x 100000"):
            judged(bomb)


def test_as_many_pixels_as_allowed_are_allowed() -> None:
    assert judged(an_image("PNG"), max_px=2400).width_px == 60
    with pytest.raises(ImageTooManyPixels):
        judged(an_image("PNG"), max_px=2399)


SEEDS = [an_image(kind, (9, 7)) for kind in KINDS]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@fuzz(seed=st.sampled_from(SEEDS), at=st.integers(0, 4000), junk=st.binary(max_size=40), cut=st.integers(0, 4000))
def test_hostile_bytes_give_an_image_or_a_rejection(seed: bytes, at: int, junk: bytes, cut: int) -> None:
    content = seed[: at % len(seed)] + junk + seed[at % len(seed) + len(junk) :]
    with contextlib.suppress(RecordRejected):
        assert judged(content[: cut + 1]).content
