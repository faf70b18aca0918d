"""Decodes an image into the grey square that the detector judges."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from reference_detector.errors import ImageTooExpensive, ImageTooManyPixels, ImageUnreadable, MediaTypeUnsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE_PX = 256
MAX_PX = 50_000_000
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
BLANK_PX, PX_PER_BYTE_MAX = 4_000_000, 10_000
"""An image of more than BLANK_PX with more pixels for each byte is of one colour."""
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")
"""Modes of grey with more than 8 bits, which `convert("L")` would clip."""

_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, OverflowError, struct.error, zlib.error)
"""Exceptions of Pillow's decoders for damaged bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """The detector's input for an image, and the image's size."""

    pixels: NDArray[np.uint8] = field(repr=False)
    """SIDE_PX x SIDE_PX, with mean 127 and standard deviation 40 at any exposure."""
    width_px: int
    height_px: int


def read_photo(content: bytes, *, max_px: int = MAX_PX) -> Photo:
    """Decode the first frame of an image.

    Raises:
        MediaTypeUnsupported: it is not an image in one of FORMATS.
        ImageTooManyPixels: its header states more than *max_px*.
        ImageTooExpensive: its header states far more than its bytes can hold.
        ImageUnreadable: it ends early or is damaged.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_px:
                raise ImageTooManyPixels(f"{width} x {height} pixels are more than {max_px:,}")
            if width * height > max(BLANK_PX, PX_PER_BYTE_MAX * len(content)):
                raise ImageTooExpensive(f"{width} x {height} pixels in {len(content):,} bytes")
            return Photo(pixels=_standardised(_grey_square(image)), width_px=width, height_px=height)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageTooManyPixels(f"the image has more than {max_px:,} pixels") from exc
    except UnidentifiedImageError as exc:
        raise MediaTypeUnsupported(f"the bytes are not an image in one of the formats {', '.join(FORMATS)}") from exc
    except _DAMAGE as exc:
        raise ImageUnreadable("the image is truncated or damaged") from exc


def _grey_square(image: Image.Image) -> NDArray[np.float32]:
    grey = image.convert("F" if image.mode in DEEP_MODES else "L")
    return np.asarray(grey.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR), dtype=np.float32)


def _standardised(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the pixels without the effect of exposure, so that a darker photo of a cell gives the same ones."""
    spread = max(float(grey.std()), 1e-6)
    levels: NDArray[np.uint8] = np.clip((grey - grey.mean()) / spread * 40 + 127, 0, 255).astype(np.uint8)
    return levels
