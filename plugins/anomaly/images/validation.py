"""Validate downloaded bytes: a complete image in a supported format, of limited size."""

from __future__ import annotations

import hashlib
import io
import struct
from functools import cache

from PIL import Image as Pillow

from anomaly.errors import ImageNotAnImage, ImageTooExpensive, ImageTooManyPixels, ImageTruncated
from anomaly.images.structure import read_structure
from anomaly.models.records import Image

BLANK_PX = 4_000_000
PX_PER_BYTE_MAX = 10_000
"""An image of more than `BLANK_PX` with more pixels for each byte holds one colour, or nothing; to decode it is all that it costs."""


@cache
def plain_image() -> Image:
    """Return a grey image of 256 x 256 pixels."""
    out = io.BytesIO()
    Pillow.new("L", (256, 256), 128).save(out, "PNG")
    return validated(out.getvalue(), max_px=256 * 256, source="plain image")


def validated(content: bytes, *, max_px: int, source: object) -> Image:
    """Return *content* as an image; *source* names its origin in messages, as a string.

    No pixel is decoded, so that no image can take the memory and the time of other records.

    Raises:
        ImageNotAnImage: it is empty, not an image, broken, or in an unsupported format.
        ImageTruncated: its end is missing.
        ImageTooManyPixels: its header announces more than *max_px*.
        ImageTooExpensive: to decode it takes far more than an image of its size needs.
    """
    structure = None
    try:
        for structure in read_structure(content):
            _check_px(structure.width_px, structure.height_px, len(content), max_px)
    except (ImageTooExpensive, ImageTooManyPixels) as exc:
        raise type(exc)(f"{source}: {exc}") from None
    except (EOFError, struct.error) as exc:
        raise ImageTruncated(f"{source}: ends before its end, after {len(content)} bytes") from exc
    except Exception as exc:  # hostile bytes
        raise ImageNotAnImage(f"{source}: a broken image ({type(exc).__name__}, {len(content)} bytes)") from exc
    if structure is None:
        raise ImageNotAnImage(f"{source}: no image in a format that we read ({len(content)} bytes)")
    media_type, width, height = structure
    return Image(content=content, sha256=hashlib.sha256(content).hexdigest(), media_type=media_type, width_px=width, height_px=height)


def _check_px(width: int, height: int, size: int, max_px: int) -> None:
    if width * height > max_px:
        raise ImageTooManyPixels(f"{width} x {height} pixels, more than {max_px}")
    if width * height > max(BLANK_PX, PX_PER_BYTE_MAX * size):
        raise ImageTooExpensive(f"{width} x {height} pixels in {size} bytes")
    if not width * height:
        raise ValueError("no pixels")
