"""Decodes images in processes whose memory and time are limited, so that a bomb costs its own request alone."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from reference_detector.errors import DetectorError, ImageTooExpensive, Overloaded
from reference_detector.photo import Photo, read_photo

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_BYTES = 240_000_000
"""Memory for one image: 48 million pixels in colour take as much, with 4 bytes and one of grey each."""
CPU_S = 2.0
SMALL_BYTES, SMALL_PX = 256 * 1024, 4_000_000
_KEPT_BYTES = "67108864"
"""Memory that glibc keeps for the next image; to return it after each costs more than to decode a small one."""
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
    """Processes that decode images, for one event loop. They start when they are needed, and end by `close`."""

    def __init__(self, *, processes: int) -> None:
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decoding")
        self._idle: list[_Process] = []

    async def read(self, content: bytes, *, max_px: int) -> Photo:
        """Return the decoded image.

        Raises:
            ImageTooExpensive: it takes more memory or time than allowed.
            Overloaded: no process could be started.
            DetectorError: as `read_photo`; or the process failed.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, content, max_px)

    def _read(self, content: bytes, max_px: int) -> Photo:
        process = self._take()
        try:
            result = process.read(content, max_px)
        except (EOFError, OSError) as exc:
            if process.close() > 0:
                raise DetectorError("the process that decodes the image failed; its traceback is in the log") from exc
            raise ImageTooExpensive(f"the image takes more than {CPU_S:g} s to decode") from exc
        self._idle.append(process)
        if isinstance(result, Photo):
            return result
        raise result

    def _take(self) -> _Process:
        with suppress(IndexError):
            while not (process := self._idle.pop()).is_alive():
                process.close()
            return process
        try:
            return _Process.started()
        except (EOFError, OSError) as exc:
            raise Overloaded("no process could be started to decode the image") from exc

    def close(self) -> None:
        """End the processes, after the images that they decode."""
        self._threads.shutdown(cancel_futures=True)
        for process in self._idle:
            process.close()


class _Process:
    """A process that decodes one image after another, until this end of its pipe is closed."""

    def __init__(self) -> None:
        self._pipe, theirs = Pipe()
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_TOP_PAD_": _KEPT_BYTES}
        with theirs:
            self._popen = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environ)  # noqa: S603 - our own command

    @classmethod
    def started(cls) -> _Process:
        """Return a process that is ready.

        Raises:
            EOFError, OSError: it could not be started.
        """
        process = cls()
        try:
            process._pipe.recv()
        except EOFError:
            process.close()
            raise
        return process

    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def read(self, content: bytes, max_px: int) -> Photo | DetectorError:
        """Return the image, or why it cannot be decoded.

        Raises:
            EOFError, OSError: the process ended.
        """
        self._pipe.send((content, max_px))
        result: Photo | DetectorError = self._pipe.recv()
        return result

    def close(self) -> int:
        """End the process and return its exit status, which is negative if a signal ended it."""
        self._pipe.close()
        return self._popen.wait()


def _serve(pipe: Connection) -> None:
    """Decode the images that come through *pipe*."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the service, which ends its processes
    Image.init()  # imports the decoders, whose size is not an image's
    pipe.send(None)
    while True:
        try:
            content, max_px = pipe.recv()
        except EOFError:
            return
        pipe.send(_decoded(content, max_px))


def _decoded(content: bytes, max_px: int) -> Photo | DetectorError:
    try:
        with _limited():
            return read_photo(content, max_px=max_px)
    except MemoryError:
        return ImageTooExpensive(f"the image takes more than {MEMORY_BYTES // 1_000_000} MB to decode")
    except DetectorError as exc:
        return exc


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


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
