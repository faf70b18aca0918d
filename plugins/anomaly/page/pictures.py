"""Pictures of a result: the image, its heat map, and small versions of both, decoded within limits."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from PIL import Image

if TYPE_CHECKING:
    from anomaly.archive.bucket import Archive

Kind = Literal["image", "heatmap", "thumbnail", "heatmap-thumbnail"]
SIDE_PX = 360
"""Longest side of a small version."""
SHOWN_BY_BROWSERS = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp"}
CACHED = 1500
"""Small versions that one process keeps, about 15 KB each."""
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    MemoryError,
    Image.DecompressionBombError,
)
"""Exceptions of Pillow's decoders for damaged bytes."""


class NoPicture(Exception):
    """Raised when there is nothing to show; the sentence is shown in its place."""


def original(archive: Archive, key: str, *, max_px: int) -> tuple[bytes, str]:
    """Return an object of the bucket in a format that browsers show, and its media type.

    Raises:
        NoPicture: it is gone, or cannot be shown.
    """
    content = _read(archive, key)
    media_type = SHOWN_BY_BROWSERS.get(PurePosixPath(key).suffix)
    return (content, media_type) if media_type else (_encoded(content, max_px=max_px, side_px=None), "image/webp")


@lru_cache(maxsize=CACHED)
def thumbnail(archive: Archive, key: str, *, max_px: int) -> bytes:
    """Return a small version of an object as WebP.

    Raises:
        NoPicture: it is gone, or cannot be decoded within the limits.
    """
    return _encoded(_read(archive, key), max_px=max_px, side_px=SIDE_PX)


def _read(archive: Archive, key: str) -> bytes:
    content = archive.read(key)
    if content is None:
        raise NoPicture("no longer in the bucket")
    return content


def _encoded(content: bytes, *, max_px: int, side_px: int | None) -> bytes:
    try:
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > max_px:
                raise NoPicture("too many pixels to be shown")
            if side_px:
                opened.draft("RGB", (side_px, side_px))  # decodes a JPEG at a fraction of its size
            shown = _as_eight_bit(opened)
            if side_px:
                shown.thumbnail((side_px, side_px))
            out = io.BytesIO()
            shown.save(out, "WEBP", quality=85)
            return out.getvalue()
    except _DAMAGE as exc:
        raise NoPicture("cannot be decoded") from exc


def _as_eight_bit(opened: Image.Image) -> Image.Image:
    """Return the first frame in eight bits a channel, deeper grey stretched over its range."""
    if opened.mode in DEEP_MODES:
        grey = opened.convert("F")
        low, high = grey.getextrema()
        if not isinstance(low, float) or not isinstance(high, float):
            raise NoPicture("cannot be decoded")
        scale = 255 / (high - low) if high > low else 0.0
        return grey.point(lambda value: value * scale - low * scale).convert("L")
    return opened.convert("RGBA" if "A" in opened.getbands() or "transparency" in opened.info else "RGB")
