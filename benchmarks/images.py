"""Photos that differ only in a number in a comment of one and the same JPEG."""

from __future__ import annotations

import io
from random import Random

from PIL import Image

DIGITS = 16
AT = 6
"""Position of the number: after the start of the image, the marker of the comment and its length."""
_COMMENT = b"\xff\xfe" + (DIGITS + 2).to_bytes(2, "big")
_FIRST_SIDE_PX = 256


class Photos:
    """JPEGs of about *size* bytes of noise."""

    def __init__(self, size: int) -> None:
        side_px = _FIRST_SIDE_PX
        side_px = max(8, round(side_px * (size / len(_noise(side_px))) ** 0.5))
        jpeg = _noise(side_px)
        self._before = jpeg[:2] + _COMMENT
        self._after = jpeg[2:]
        self.size = len(self._before) + DIGITS + len(self._after)

    def pieces(self, number: int) -> tuple[bytes, bytes, bytes]:
        """Return the parts of the image with this number."""
        return self._before, b"%0*d" % (DIGITS, number), self._after


def number_of(beginning: bytes | bytearray) -> int:
    """Return the number of the image that begins with these bytes."""
    return int(beginning[AT : AT + DIGITS])


def score_of(number: int) -> float:
    """Return the detector's score for an image. The check in SQL computes the same."""
    return number * 7919 % 1000 / 1000


def _noise(side_px: int) -> bytes:
    made = io.BytesIO()
    noise = Random(1).randbytes(side_px * side_px)  # noqa: S311  # the same picture every time
    Image.frombytes("L", (side_px, side_px), noise).save(made, "JPEG", quality=75)
    return made.getvalue()
