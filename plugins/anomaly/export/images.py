"""The archived images of records in a folder for each verdict, and these as a zip file."""

from __future__ import annotations

from array import array
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from zipstream import ZipStream

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from concurrent.futures import Future

    from anomaly.archive.bucket import Archive
    from anomaly.export.tables import Row

READERS = 4
"""Images that are read at the same time, and so held in memory."""
SUFFIXES = frozenset({".jpg", ".png", ".webp", ".gif", ".bmp", ".tif"})
VERDICTS = frozenset({"anomaly", "normal", "unsure"})
MISSING = "missing.txt"


def file_name(row: Row) -> str:
    """Return the path of a record's image: `anomaly/17-2.png` is the image of record 17 and of its result with the token 2.

    The folder is the decision of a person, or the detector's verdict where nobody has decided. No part of the path is text of a record.
    """
    verdict = row["review"] if row["review"] in VERDICTS else "anomaly" if row["is_anomaly"] else "normal"
    suffix = PurePosixPath(row["image_key"]).suffix
    return f"{verdict}/{row['record_id']}-{row['token']}{suffix if suffix in SUFFIXES else '.bin'}"


def image_files(rows: Iterable[Row], archive: Archive) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each image. Records without a result have none.

    The last file is a list of the records whose image is no longer in the bucket, if there are any.

    Raises:
        ArchiveUnavailable: the bucket cannot be read.
    """
    missing = array("q")
    for row, content in _read_ahead((row for row in rows if row["image_key"]), archive):
        if content is None:
            missing.append(row["record_id"])
        else:
            yield file_name(row), content
    if missing:
        yield MISSING, "".join(f"{record_id}\n" for record_id in missing).encode()


def zip_blocks(rows: Iterable[Row], archive: Archive) -> Generator[bytes]:
    """Yield a zip file of the images, which are stored without compression. Its directory takes about 500 bytes an image until the end."""
    zipped = ZipStream(sized=False)
    for name, content in image_files(rows, archive):
        zipped.add(content, name)
        yield b"".join(zipped.all_files())
    yield from zipped.finalize()


def _read_ahead(rows: Iterable[Row], archive: Archive) -> Iterator[tuple[Row, bytes | None]]:
    with ThreadPoolExecutor(READERS) as readers:
        reading: deque[tuple[Row, Future[bytes | None]]] = deque()
        for row in rows:
            reading.append((row, readers.submit(archive.read, row["image_key"])))
            if len(reading) == READERS:
                first, read = reading.popleft()
                yield first, read.result()
        for row, read in reading:
            yield row, read.result()
