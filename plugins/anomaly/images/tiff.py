"""Read the directory of a TIFF: size, tiles and strips, of which there may be neither too many nor too large ones."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from anomaly.errors import ImageTooExpensive

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TAGS_MAX = 4096
PIECES_MAX = 100_000
"""Most strips or tiles."""
PAGES_MAX = 1000
TILE_PX_MAX = 16 * 1024 * 1024
PIXEL_BITS_MAX = 128
_WIDTH, _HEIGHT, _BITS, _STRIPS, _SAMPLES, _STRIP_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = _TAGS = (
    256, 257, 258, 273, 277, 279, 322, 323, 324, 325,
)  # fmt: skip
_UNITS = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""The integer types and their letters in `struct`."""


def read_tiff(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size of the first page of a TIFF or BigTIFF, then check that its strips or tiles lie in the file.

    Raises:
        ImageTooExpensive: a tile, or the number of pages, tags, strips or samples, is larger than an image needs.
        EOFError, struct.error: the file ends before its picture.
        ValueError: it is broken.
    """
    directory = _Directory(content)
    tags = directory.read_first()
    width, height = tags[_WIDTH][0], tags[_HEIGHT][0]
    yield width, height
    samples, bits = tags.get(_SAMPLES, (1,))[0], max(tags.get(_BITS, (1,)))
    if samples * bits > PIXEL_BITS_MAX:
        raise ImageTooExpensive(f"{samples} samples of {bits} bits for each pixel")
    if _TILES in tags and tags[_TILE_WIDTH][0] * tags[_TILE_HEIGHT][0] > TILE_PX_MAX:
        raise ImageTooExpensive(f"tiles of {tags[_TILE_WIDTH][0]} x {tags[_TILE_HEIGHT][0]} pixels")
    offsets, sizes = (tags[_TILES], tags[_TILE_BYTES]) if _TILES in tags else (tags[_STRIPS], tags.get(_STRIP_BYTES, (0,)))
    if not offsets or any(offset + size > len(content) for offset, size in zip(offsets, sizes, strict=False)):
        raise EOFError("the picture ends after the file")
    directory.check_pages()


class _Directory:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._order = "<" if content.startswith(b"II") else ">"
        is_big = content[2:4] in {b"+\0", b"\0+"}
        self._count, self._pointer, self._entry_bytes = ("Q", "Q", 20) if is_big else ("H", "I", 12)
        (self._first,) = self._read(self._pointer, 8 if is_big else 4)

    def _read(self, letters: str, at: int) -> tuple[Any, ...]:
        return struct.unpack_from(self._order + letters, self._content, at)

    def read_first(self) -> dict[int, Sequence[int]]:
        tags: dict[int, Sequence[int]] = {}
        start, count = self._entries(self._first)
        value_bytes = struct.calcsize("=" + self._pointer)
        for at in range(start, start + count * self._entry_bytes, self._entry_bytes):
            tag, kind, values = self._read(f"HH{self._pointer}", at)
            if tag not in _TAGS or tag in tags or kind not in _UNITS:
                continue
            if values > PIECES_MAX:
                raise ImageTooExpensive(f"{values} strips, tiles or samples")
            letters = f"{values}{_UNITS[kind]}"
            value_at = at + 4 + value_bytes
            is_inline = struct.calcsize("=" + letters) <= value_bytes
            tags[tag] = self._read(letters, value_at if is_inline else self._read(self._pointer, value_at)[0])
        return tags

    def check_pages(self) -> None:
        at = self._first
        for _ in range(PAGES_MAX):
            start, count = self._entries(at)
            (at,) = self._read(self._pointer, start + count * self._entry_bytes)
            if not at:
                return
            if at >= len(self._content):
                return  # the first page is all that is looked at
        raise ImageTooExpensive(f"more than {PAGES_MAX} pages")

    def _entries(self, at: int) -> tuple[int, int]:
        """Return the position of the first entry of the directory at *at*, and how many there are."""
        (count,) = self._read(self._count, at)
        if count > TAGS_MAX:
            raise ImageTooExpensive(f"{count} tags")
        return at + struct.calcsize("=" + self._count), count
