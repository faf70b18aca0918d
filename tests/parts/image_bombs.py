"""Images that would cost far more to read than their size suggests, made by code, each with the code of its rejection."""

from __future__ import annotations

import struct
import zlib
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXPENSIVE, PIXELS, TRUNCATED, NO_IMAGE, ACCEPTED = (
    "image_too_expensive", "image_too_many_pixels", "image_truncated", "image_not_an_image", "",
)  # fmt: skip
MB = 1_000_000
END = b"\xff\xd9"


def png_chunk(kind: bytes, data: bytes = b"", *, crc: int | None = None) -> bytes:
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)


def png(*middle: bytes, size: tuple[int, int] = (1, 1), data: bytes | None = None, mode: int = 0) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, mode, 0, 0, 0))
    picture = png_chunk(b"IDAT", zlib.compress(b"\0" * ((size[0] + 1) * size[1]) if data is None else data))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(middle) + picture + png_chunk(b"IEND")


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg(before: bytes = b"", scans: bytes | None = None, *, size: tuple[int, int] = (8, 8), frame: int = 0xC2) -> bytes:
    start = segment(frame, struct.pack(">BHHB", 8, size[1], size[0], 1) + b"\1\x11\0")
    return b"\xff\xd8" + before + start + (SCAN if scans is None else scans) + END


SCAN = segment(0xDA, b"\1\1\0\0\x3f\0") + b"\0" * 8


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(struct.pack("<4sI", kind, len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def lossless(width: int, height: int) -> tuple[bytes, bytes]:
    return b"VP8L", struct.pack("<BI", 0x2F, (width - 1) | (height - 1) << 14) + b"\x88\x88\x08"


def canvas(width: int, height: int) -> tuple[bytes, bytes]:
    return b"VP8X", b"\2\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def gif(*blocks: bytes, size: tuple[int, int] = (1, 1), frame: tuple[int, int] = (1, 1), end: bytes = b"\2\x44\1\0;") -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", *size, 0, 0, 0) + b"".join(blocks) + struct.pack("<BHHHHBB", 44, 0, 0, *frame, 0, 2) + end


def bmp(width: int, height: int, data: bytes, *, compression: int = 1, bits: int = 8) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 256, 0)
    start = 14 + len(head) + 1024
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + head + bytes(1024) + data


def tiff(tags: dict[int, tuple[int, int, int]], tail: bytes = b"", *, next_page: int = 0, order: str = "<", big: bool = False) -> bytes:
    """Return a TIFF with *tags* as {tag: (type, count, value)} and *tail* after the directory."""
    count, entry, pointer = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    magic = {"<": b"II", ">": b"MM"}[order]
    head = magic + (struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8))
    value_bytes, unit_bytes = (8 if big else 4), {3: 2, 4: 4, 7: 1}

    def shift(kind: int, n: int) -> int:  # a value that is shorter than its field stands at the field's begin
        return 8 * (value_bytes - unit_bytes[kind]) if order == ">" and n == 1 else 0

    entries = b"".join(struct.pack(order + entry, tag, kind, n, value << shift(kind, n)) for tag, (kind, n, value) in sorted(tags.items()))
    return head + struct.pack(order + count, len(tags)) + entries + struct.pack(order + pointer, next_page) + tail


def page(**changed: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    names = {"width": 256, "height": 257, "bits": 258, "compression": 259, "strips": 273, "samples": 277, "rows": 278, "sizes": 279}
    names |= {"tile_width": 322, "tile_height": 323, "tiles": 324, "tile_sizes": 325, "profile": 34675}
    tags = {"width": (4, 1, 1), "height": (4, 1, 1), "bits": (3, 1, 8), "strips": (4, 1, 8), "sizes": (4, 1, 1)} | changed
    return {names[name]: value for name, value in tags.items()}


def tile(side: int) -> dict[int, tuple[int, int, int]]:
    return page(tile_width=(4, 1, side), tile_height=(4, 1, side), tiles=(4, 1, 8), tile_sizes=(4, 1, 8), compression=(3, 1, 8))


def exif_in_a_circle() -> bytes:
    """Return a segment whose directory has itself as its Exif and GPS directories and as its next one."""
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, 8) for tag in (0x8769, 0x8825))
    return segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\2\0" + tags + struct.pack("<I", 8))


def multi_picture(images: int) -> bytes:
    tags = struct.pack("<HHIIHHII", 0xB001, 4, 1, images, 0xB002, 7, 16 * images, 38)
    return segment(0xE2, b"MPF\0II*\0\x08\0\0\0\2\0" + tags + bytes(4) + struct.pack("<IIIHH", 0x20000, 100, 0, 0, 0) * images)


def bombs() -> Iterator[tuple[str, Callable[[], bytes], str]]:
    """Yield the name of each bomb, a function that makes it, and the code of the error, or "" where it is accepted undecoded."""
    yield from _tiffs()
    yield from _jpegs()
    yield from _pngs()
    yield from _webps()
    yield from _gifs()
    yield from _bmps()


def _tiffs() -> Iterator[tuple[str, Callable[[], bytes], str]]:
    for order in "<>":
        for big in (False, True):
            kind = f"{'big' if big else ''}tiff{order}"
            for side in (30_000, 65_536):
                yield f"{kind} tile of {side}", partial(tiff, tile(side), order=order, big=big), EXPENSIVE
            for n in (1 * MB, 20 * MB // 8 * 2):
                tags = page(strips=(4, n, 200), sizes=(4, n, 200))
                yield f"{kind} {n} strips", partial(tiff, tags, bytes(4 * n), order=order, big=big), EXPENSIVE
            yield f"{kind} pages in a circle", partial(tiff, page(), order=order, big=big, next_page=16 if big else 8), EXPENSIVE
            yield f"{kind} size", partial(tiff, page(width=(4, 1, 2**31), height=(4, 1, 2**31)), order=order, big=big), PIXELS
    yield "tiff 65535 samples", lambda: tiff(page(samples=(3, 1, 65535))), EXPENSIVE
    yield "tiff 65535 tags", lambda: b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 34675, 4, 1, 1) * 65535, EXPENSIVE
    yield "tiff 20 MB of profile", lambda: tiff(page(profile=(7, 20 * MB, 100)), bytes(20 * MB)), ACCEPTED
    yield "tiff blank", lambda: tiff(page(width=(4, 1, 7000), height=(4, 1, 7000))), EXPENSIVE
    yield "tiff sub-directories in a circle", lambda: tiff({**page(), 330: (4, 1, 8), 34665: (4, 1, 8)}), ACCEPTED
    yield "bigtiff next page beyond 2 ** 63", lambda: tiff(page(), big=True, next_page=2**63), ACCEPTED
    yield "bigtiff 2 ** 60 strips", lambda: tiff(page(strips=(4, 2**60, 200)), big=True), EXPENSIVE
    yield "tiff strip outside", lambda: tiff(page(sizes=(4, 1, 2**31))), TRUNCATED


def _jpegs() -> Iterator[tuple[str, Callable[[], bytes], str]]:
    yield "jpeg 20 MB of fill bytes", lambda: jpeg(b"\xff" * 20 * MB), EXPENSIVE
    yield "jpeg 20 MB of fill bytes without end", lambda: b"\xff\xd8" + b"\xff" * 20 * MB, TRUNCATED
    yield "jpeg 20 MB of junk", lambda: jpeg(segment(0xE0, b"") + bytes(20 * MB)), EXPENSIVE
    for marker in (0xE0, 0xE1, 0xE2, 0xED, 0xFE, 0xDB, 0xC4, 0xDD, 0xDC):
        yield f"jpeg 20 MB of empty {marker:X}", partial(jpeg, segment(marker, b"") * (20 * MB // 4)), EXPENSIVE
    yield "jpeg 20 MB of restarts", lambda: jpeg(b"\xff\xd0" * 10 * MB), EXPENSIVE
    yield "jpeg 20 MB of starts", lambda: jpeg(b"\xff\xd8" * 10 * MB), EXPENSIVE
    yield "jpeg 20 MB of frames", lambda: jpeg(segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 1)) * (2 * MB)), EXPENSIVE
    yield "jpeg 20 MB of Exif", lambda: jpeg(segment(0xE1, b"Exif\0\0" + b"x" * 10) * MB), EXPENSIVE
    yield "jpeg scans without end", lambda: jpeg(scans=SCAN * MB), EXPENSIVE
    yield "jpeg 101 scans", lambda: jpeg(scans=SCAN * 101), EXPENSIVE
    yield "jpeg 30 scans of 49 megapixels", lambda: jpeg(scans=SCAN * 30 + bytes(10_000) + END, size=(7000, 7000)), EXPENSIVE
    yield "jpeg tables between scans", lambda: jpeg(scans=SCAN + segment(0xC4, b"") * 5 * MB + b"\xff\xda"), ACCEPTED
    yield "jpeg blank", lambda: jpeg(size=(7000, 7000)), EXPENSIVE
    yield "jpeg Exif in a circle", lambda: jpeg(exif_in_a_circle() * 300), ACCEPTED
    yield "jpeg of 4000 pictures", lambda: jpeg(multi_picture(4000)), ACCEPTED
    yield "jpeg 300 profiles of 60 KB", lambda: jpeg(segment(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(60_000)) * 300), ACCEPTED
    yield "jpeg height after the picture", lambda: jpeg(scans=SCAN + segment(0xDC, b"\xff\xff"), size=(65535, 0)), NO_IMAGE
    yield "jpeg 1000 heights after the picture", lambda: jpeg(scans=SCAN + segment(0xDC, b"\xff\xff") * 1000), ACCEPTED
    yield "jpeg of 65535", lambda: jpeg(size=(65535, 65535)), PIXELS


def _pngs() -> Iterator[tuple[str, Callable[[], bytes], str]]:
    profile = b"x\0\0" + zlib.compress(bytes(MB - 1), 9)
    yield "png 15000 profiles", lambda: png(png_chunk(b"iCCP", profile) * 15_000), EXPENSIVE
    yield "png 17 profiles", lambda: png(png_chunk(b"iCCP", profile) * 17), EXPENSIVE
    for kind in (b"tEXt", b"iTXt", b"zTXt", b"pHYs", b"fdAT", b"fcTL", b"IDAT"):
        yield f"png 1600000 empty {kind.decode()}", partial(png, png_chunk(kind) * (1_600_000)), EXPENSIVE
    yield "png text of 1 GB", lambda: png(png_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(100 * MB), 9))), ACCEPTED
    yield "png picture of 100 MB in one pixel", lambda: png(data=bytes(100 * MB)), ACCEPTED
    frame = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 1, 0, 0))
    yield "png 500000 frames", lambda: png(png_chunk(b"acTL", struct.pack(">II", 500_000, 0)), frame * 500_000), EXPENSIVE
    yield "png 2 ** 31 frames announced", lambda: png(png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), frame), ACCEPTED
    for kind, head in ((b"zTXt", b"x\0\0"), (b"iTXt", b"x\0\1\0\0\0")):
        yield f"png 2000 {kind.decode()} of 1 MB", partial(png, png_chunk(kind, head + profile[3:]) * 2000), ACCEPTED
    yield "png picture in bytes", lambda: png(png_chunk(b"IDAT", b"x") * 1_500_000), EXPENSIVE
    yield "png before 20 MB", lambda: png() + bytes(20 * MB), ACCEPTED
    yield "png interlaced blank", lambda: png(size=(7000, 7000), data=b"", mode=3), EXPENSIVE
    yield "png blank", lambda: png(size=(7000, 7000), data=b""), EXPENSIVE
    yield "png of 2 ** 31", lambda: png(size=(2**31 - 1, 2**31 - 1), data=b""), PIXELS
    yield "png chunk of 4 GB", lambda: png(struct.pack(">I4s", 2**32 - 1, b"tEXt")), TRUNCATED


def _webps() -> Iterator[tuple[str, Callable[[], bytes], str]]:
    yield "webp of one colour", lambda: webp(lossless(7000, 7000)), EXPENSIVE
    yield "webp of 16383", lambda: webp(lossless(16383, 16383)), PIXELS
    yield "webp canvas", lambda: webp(canvas(7000, 7000), lossless(1, 1)), EXPENSIVE
    yield "webp canvas of 2 ** 24", lambda: webp(canvas(2**24, 2**24), lossless(1, 1)), PIXELS
    yield "webp picture beyond its canvas", lambda: webp(canvas(1, 1), lossless(16383, 16383)), PIXELS
    yield "webp 2500000 chunks", lambda: webp(canvas(1, 1), lossless(1, 1), *[(b"XXXX", b"")] * 2_500_000), EXPENSIVE
    frame = (b"ANMF", bytes(6) + b"\xff\xff\0\xff\xff\0" + bytes(4))
    yield "webp frames", lambda: webp(canvas(1, 1), *[frame] * 100_000), EXPENSIVE
    yield "webp frame of 2 ** 24", lambda: webp(canvas(1, 1), (b"ANMF", bytes(6) + b"\xff" * 6 + bytes(4))), PIXELS
    small = (b"ANMF", bytes(16) + webp(lossless(1, 1))[12:])
    yield "webp 400000 small frames", lambda: webp(canvas(1, 1), (b"ANIM", bytes(6)), *[small] * 400_000), EXPENSIVE
    yield "webp of 4 GB", lambda: b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff", TRUNCATED
    yield "webp that declares nothing", lambda: b"RIFF\0\0\0\0WEBP" + bytes(20 * MB), NO_IMAGE
    yield "webp lossy", lambda: webp((b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 7000, 7000))), EXPENSIVE


def _gifs() -> Iterator[tuple[str, Callable[[], bytes], str]]:
    yield "gif 10 million comment blocks", lambda: gif(b"!\xfe" + b"\1x" * 10 * MB + b"\0"), EXPENSIVE
    yield "gif 6 million extensions", lambda: gif(b"!\xf9\0" * 6 * MB), EXPENSIVE
    yield "gif 20 MB of junk", lambda: gif(bytes(20 * MB)), EXPENSIVE
    yield "gif picture in small blocks", lambda: gif(end=b"\1x" * 10 * MB + b"\0;"), EXPENSIVE
    yield "gif a million frames", lambda: gif(end=(b"\2\x44\1\0" + struct.pack("<BHHHHBB", 44, 0, 0, 1, 1, 0, 2)) * MB + b";"), ACCEPTED
    table = struct.pack("<BHHHHB", 44, 0, 0, 1, 1, 0x87) + bytes(768) + b"\2\2\x44\1\0"
    yield "gif 25000 frames with tables", lambda: gif(end=b"\2\x44\1\0" + table * 25_000 + b";"), ACCEPTED
    yield "gif picture in full and small blocks", lambda: gif(end=(b"\xff" * 256 + b"\1x") * 77_000 + b"\0;"), EXPENSIVE
    yield "gif small picture on a large canvas", lambda: gif(size=(7000, 7000), frame=(1, 1)), EXPENSIVE
    yield "gif blank", lambda: gif(size=(7000, 7000)), EXPENSIVE
    yield "gif frame beyond its canvas", lambda: gif(frame=(65535, 65535)), PIXELS
    yield "gif of 65535", lambda: gif(size=(65535, 65535)), PIXELS


def _bmps() -> Iterator[tuple[str, Callable[[], bytes], str]]:
    yield "bmp run lengths", lambda: bmp(7000, 7000, b"\0\2\xff\xff" * 16 + b"\0\1"), EXPENSIVE
    yield "bmp ends of lines", lambda: bmp(50_000, 900, b"\1\1\0\0" * 900 + b"\0\1"), EXPENSIVE
    yield "bmp run lengths of 4 bits", lambda: bmp(7000, 7000, b"\0\2\xff\xff" * 10_000, compression=2, bits=4), EXPENSIVE
    yield "bmp without picture", lambda: bmp(7000, 7000, b"", compression=0), EXPENSIVE
    yield "bmp short of picture", lambda: bmp(1000, 1000, b"", compression=0), TRUNCATED
    yield "bmp upside down", lambda: bmp(7000, -7000, b"", compression=0), EXPENSIVE
    yield "bmp with a jpeg inside", lambda: bmp(7000, 7000, b"\xff\xd8", compression=4), NO_IMAGE
    yield "bmp with a short header", lambda: b"BM" + struct.pack("<IHHIIHHHH", 26, 0, 0, 26, 12, 65535, 65535, 1, 24), PIXELS
    yield "ico of 60000 pictures", lambda: struct.pack("<HHH", 0, 1, 60_000) + bytes(16) * 60_000, NO_IMAGE
    yield "zip", lambda: b"PK\3\4" + bytes(20 * MB), NO_IMAGE
    yield "bmp of 2 ** 31", lambda: bmp(2**31 - 1, 2**31 - 1, b"", compression=0), PIXELS
    yield "bmp 20 MB of nothing", lambda: bmp(1, 1, bytes(20 * MB)), ACCEPTED
