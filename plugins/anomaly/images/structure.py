"""Read what an image declares about itself, without decoding pixels.

Pillow does the expensive part of some files when it opens them: it decompresses each colour profile of a PNG, allocates the canvas
of a WebP, makes a Python object of each strip of a TIFF, and reads the fill bytes of a JPEG one at a time. The readers here take a
bounded number of steps and copy nothing that grows with the image.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from PIL import BmpImagePlugin

from anomaly.errors import ImageTooExpensive
from anomaly.images.tiff import read_tiff

if TYPE_CHECKING:
    from collections.abc import Iterator

JPEG_SCANS_MAX = 100
JPEG_SCANNED_PX_MAX = 1_000_000_000
"""Largest product of scans and pixels. A progressive JPEG has about ten scans, each of which passes over all pixels."""
JPEG_SEGMENTS_MAX = 2000
JPEG_PADDING_MAX = 64 * 1024
"""Most bytes between segments: fill bytes, and what belongs to no segment."""
PNG_PROFILES_MAX = 16
CHUNKS_MAX = 10_000
"""Most chunks of a PNG or WebP and most blocks of a GIF, besides those that the size of the file allows."""
BYTES_PER_CHUNK, BYTES_PER_GIF_BLOCK = 1024, 200
GIF_HEADER_BYTES, GIF_BLOCK_BYTES = 13, 255
RUN_PX_PER_BYTE_MAX = 128
"""Most pixels for each byte of a BMP with run lengths: a run of 255 takes two bytes."""
_JPEG_START_OF_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
JPEG_SEQUENTIAL = frozenset({0xC0, 0xC1})
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""
_FILL, _MARKER = re.compile(rb"\xff+"), re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SCAN = re.compile(_JPEG_START_OF_SCAN)  # three times as fast as bytes.count()


class Structure(NamedTuple):
    """The format and the size that an image declares."""

    media_type: str
    width_px: int
    height_px: int


def read_structure(content: bytes) -> Iterator[Structure]:
    """Yield what *content* declares as soon as it is known, then check the rest. Yield nothing if it is in no supported format.

    Raises:
        ImageTooExpensive: it declares more than an image needs.
        EOFError, struct.error: it ends before its end.
        ValueError: it is broken.
    """
    for magic, media_type, read in _READERS:
        if content.startswith(magic) and (media_type != "image/webp" or content[8:12] == b"WEBP"):
            yield from (Structure(media_type, *size) for size in read(content))


def _chunks_max(content: bytes, chunk_bytes: int = BYTES_PER_CHUNK) -> int:
    return CHUNKS_MAX + len(content) // chunk_bytes


def _read_jpeg(content: bytes) -> Iterator[tuple[int, int]]:
    at, padding, size, frame, layers = 2, 0, (0, 0), 0, 0
    for _ in range(JPEG_SEGMENTS_MAX):
        fill = _FILL.search(content, at)
        if fill is None or fill.end() >= len(content):
            raise EOFError("no scan")
        padding += fill.end() - 1 - at
        if padding > JPEG_PADDING_MAX:
            raise ImageTooExpensive(f"more than {JPEG_PADDING_MAX} bytes between segments")
        marker, at = content[fill.end()], fill.end() + 1
        if marker == _JPEG_START_OF_SCAN[1]:
            yield size
            has_one_scan = frame in JPEG_SEQUENTIAL and content[at + 2] == layers
            _check_scans(content, at - 2, 1 if has_one_scan else JPEG_SCANNED_PX_MAX // max(1, size[0] * size[1]))
            return
        if marker == _JPEG_END[1]:
            raise ValueError("no scan")
        if marker and marker not in _JPEG_BARE:
            (length,) = struct.unpack_from(">H", content, at)
            if marker in _JPEG_FRAMES:
                bits, height, width, layers = struct.unpack_from(">BHHB", content, at + 2)
                size, frame = (width, height), marker
                if bits != 8 or layers not in {1, 3, 4}:  # noqa: PLR2004  # grey, colour, CMYK
                    raise ValueError(f"{layers} layers of {bits} bits")
            at += max(length, 2)
    raise ImageTooExpensive(f"more than {JPEG_SEGMENTS_MAX} segments before the picture")


def _check_scans(content: bytes, at: int, scans_max: int) -> None:
    """Check that the last scan is complete, and that there are not too many. A decoder reads no second one where *scans_max* is 1.

    A picture escapes FF, so that the markers are never a picture's data, but a thumbnail or appended data may hold them. They are
    counted fast, and read one by one only where that count leaves a doubt.
    """
    most = max(1, min(JPEG_SCANS_MAX, scans_max))
    is_complete = content.endswith(_JPEG_END) or content.rfind(_JPEG_END) > content.rfind(_JPEG_START_OF_SCAN)
    if is_complete and (scans_max == 1 or next(islice(_SCAN.finditer(content, at), most, None), None) is None):
        return
    scans = 0
    for _ in range(JPEG_SEGMENTS_MAX):
        found = _MARKER.search(content, at)
        if found is None:
            raise EOFError("no end marker")
        at = found.end()
        if found[0] == _JPEG_END:
            return
        scans += found[0] == _JPEG_START_OF_SCAN
        if scans > most and scans_max > 1:
            raise ImageTooExpensive(f"more than {most} scans of all pixels")
        at += struct.unpack_from(">H", content, at)[0]
    raise ImageTooExpensive(f"more than {JPEG_SEGMENTS_MAX} segments between scans")


def _read_png(content: bytes) -> Iterator[tuple[int, int]]:
    view, at, profiles, has_picture = memoryview(content), 8, 0, False
    for _ in range(_chunks_max(content)):
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 8 + length
        if end + 4 > len(content):
            raise EOFError("a chunk ends after the file")
        # a wrong checksum matters in a chunk that decoders need, which begins with a capital
        if not kind[0] & 0x20 and zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ValueError("wrong checksum")
        if (at == 8) != (kind == b"IHDR"):  # noqa: PLR2004  # after the signature
            raise ValueError("the header is not first")
        if kind == b"IHDR":
            yield struct.unpack_from(">II", content, 16)
        if kind == b"IEND":
            if not has_picture:
                raise ValueError("no picture")
            return
        has_picture = has_picture or kind == b"IDAT"
        profiles += kind == b"iCCP"
        if profiles > PNG_PROFILES_MAX:
            raise ImageTooExpensive(f"more than {PNG_PROFILES_MAX} colour profiles")
        at = end + 4
    raise ImageTooExpensive(f"more than {_chunks_max(content)} chunks")


def _read_webp(content: bytes) -> Iterator[tuple[int, int]]:
    riff_end = 8 + int.from_bytes(content[4:8], "little")
    if riff_end > len(content):
        raise EOFError("shorter than it declares")
    at, width, height, has_picture = 12, 0, 0, False
    for _ in range(_chunks_max(content)):
        if at + 8 > riff_end:
            if not has_picture:
                raise ValueError("no picture")
            yield width, height
            return
        kind, length = struct.unpack_from("<4sI", content, at)
        if at + 8 + length > riff_end:
            raise ValueError("a chunk ends after the file")
        if sizes := _webp_size(content, kind, at + 8):
            width, height = max(width, sizes[0]), max(height, sizes[1])
        has_picture = has_picture or kind in {b"VP8 ", b"VP8L", b"ANMF"}
        at += 8 + length + length % 2
    raise ImageTooExpensive(f"more than {_chunks_max(content)} chunks")


def _webp_size(content: bytes, kind: bytes, at: int) -> tuple[int, int] | None:
    if kind == b"VP8 ":
        if content[at + 3 : at + 6] != b"\x9d\x01\x2a":
            raise ValueError("no key frame")
        width, height = struct.unpack_from("<HH", content, at + 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", content, at)
        if signature != 0x2F:  # noqa: PLR2004  # of a lossless picture
            raise ValueError("no lossless picture")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind in {b"VP8X", b"ANMF"}:
        start = at + (4 if kind == b"VP8X" else 6)
        sides = content[start : start + 6]
        return int.from_bytes(sides[:3], "little") + 1, int.from_bytes(sides[3:], "little") + 1
    return None


def _read_gif(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size of the canvas that holds the first frame, which has to be complete."""
    if len(content) < GIF_HEADER_BYTES:
        raise ValueError("no header")
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    at, in_block, has_picture = GIF_HEADER_BYTES + _palette_bytes(flags), False, False
    for _ in range(_chunks_max(content, BYTES_PER_GIF_BLOCK)):
        if at >= len(content):
            raise EOFError("ends before its first picture does")
        kind = content[at]
        if in_block and kind == GIF_BLOCK_BYTES:  # pictures consist of them
            lengths = content[at : at + 2**18 : GIF_BLOCK_BYTES + 1]
            at += (GIF_BLOCK_BYTES + 1) * (len(lengths) - len(lengths.lstrip(b"\xff")))
        elif in_block:
            at, in_block = at + kind + 1, kind > 0
            if has_picture and not in_block:
                yield width, height
                return
        elif kind == ord(","):
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", content, at + 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            at, in_block, has_picture = at + 11 + _palette_bytes(flags), True, True
        elif kind == ord("!"):
            at, in_block = at + 2, True
        elif kind == ord(";"):
            raise ValueError("no picture")
        else:
            at += 1
    raise ImageTooExpensive(f"more than {_chunks_max(content, BYTES_PER_GIF_BLOCK)} blocks")


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _read_bmp(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size in the header, which Pillow reads without reading the picture."""
    with BmpImagePlugin.BmpImageFile(io.BytesIO(content)) as opened:
        width, height = opened.size
        yield width, height
        tile = opened.tile[0]
        is_raw = isinstance(tile.args, tuple) and tile.codec_name == "raw"
        picture_bytes = tile.args[1] * height if isinstance(tile.args, tuple) and is_raw else struct.unpack_from("<I", content, 34)[0]
        if tile.offset + picture_bytes > len(content):
            raise EOFError("the picture ends after the file")
        if not is_raw and width * height > max(2**20, RUN_PX_PER_BYTE_MAX * len(content)):
            raise ImageTooExpensive(f"{width} x {height} pixels in {len(content)} bytes of run lengths")


_READERS = (
    (b"\xff\xd8\xff", "image/jpeg", _read_jpeg),
    (b"\x89PNG\r\n\x1a\n", "image/png", _read_png),
    (b"RIFF", "image/webp", _read_webp),
    (b"GIF87a", "image/gif", _read_gif),
    (b"GIF89a", "image/gif", _read_gif),
    (b"BM", "image/bmp", _read_bmp),
    (b"II*\0", "image/tiff", read_tiff),
    (b"MM\0*", "image/tiff", read_tiff),
    (b"II+\0", "image/tiff", read_tiff),
    (b"MM\0+", "image/tiff", read_tiff),
)
