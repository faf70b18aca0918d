"""Decodes images in processes whose memory and time are limited, so that a bomb costs its own request alone."""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import BrokenWorkerProcess, CapacityLimiter, to_process
from PIL import Image

from reference_detector.errors import ImageTooExpensive, Overloaded
from reference_detector.photo import read_photo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reference_detector.photo import Photo

MEMORY_BYTES = 240_000_000
"""Memory for one image: 48 million pixels in colour take as much, with 4 bytes and one of grey each."""
CPU_S = 2.0
SMALL_BYTES, SMALL_PX = 256 * 1024, 4_000_000
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


def is_small_png(content: bytes) -> bool:
    """Return whether *content* is a PNG so small that decoding it is cheap, whatever it contains, and needs no other process.

    All its chunks together decompress to 260 MB at most, of which Pillow keeps 64 MB at most; that takes half a second.
    """
    if len(content) > SMALL_BYTES or not content.startswith(_PNG):
        return False
    width, height = int.from_bytes(content[16:20]), int.from_bytes(content[20:24])
    return width * height <= SMALL_PX


class Decoder:
    """Processes that decode images, for one event loop. They start when they are needed, and end with it."""

    def __init__(self, *, processes: int) -> None:
        self._limiter = CapacityLimiter(processes)

    async def read(self, content: bytes, *, max_px: int) -> Photo:
        """Return the decoded image.

        Raises:
            ImageTooExpensive: it takes more memory or time than allowed.
            Overloaded: no process could be started.
            DetectorError: as `read_photo`.
        """
        try:
            return await to_process.run_sync(_read, content, max_px, limiter=self._limiter)
        except BrokenWorkerProcess as exc:
            if exc.args:  # anyio describes the failures of a start only
                raise Overloaded("no process could be started to decode the image") from exc
            raise ImageTooExpensive(f"the image takes more than {CPU_S:g} s to decode") from exc


def _read(content: bytes, max_px: int) -> Photo:
    _prepare()
    try:
        with _limited():
            return read_photo(content, max_px=max_px)
    except MemoryError:
        raise ImageTooExpensive(f"the image takes more than {MEMORY_BYTES // 1_000_000} MB to decode") from None


@cache
def _prepare() -> None:
    """Set up this process, once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the service, which ends its processes
    Image.init()  # imports the decoders, whose size is not an image's


@contextmanager
def _limited() -> Iterator[None]:
    """Raise MemoryError beyond the limit of memory, and end this process beyond that of time, whatever a decoder is doing."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
