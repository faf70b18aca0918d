"""Regions in the format of the COCO data set: images, annotations with boxes and polygons in pixels, categories."""

from __future__ import annotations

import io
import tempfile
from typing import TYPE_CHECKING, Any

from PIL import Image

from anomaly.export.images import file_name
from anomaly.export.tables import as_json
from anomaly.models.regions import RegionFormat, in_fractions

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from anomaly.archive.bucket import Archive
    from anomaly.export.tables import Row

BLOCK_BYTES = 64 * 1024
SPOOLED_BYTES = 4 * 1024 * 1024
"""Annotations beyond this are kept in a temporary file until all images are written."""
LABEL = "anomaly"
"""Category of a region where neither it nor its verdict has a label."""
STORED = RegionFormat("fraction")
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""Exceptions of Pillow for bytes that are no image."""


def coco_blocks(rows: Iterable[Row], archive: Archive) -> Generator[bytes]:
    """Yield a JSON document with the judged images and their regions. `file_name` is that of the export of images.

    Regions whose unit is not known, from results of earlier versions, are left out, as are those without a place. The size of an image
    that was judged by an earlier version is read from the archived image.

    Raises:
        ArchiveUnavailable: the bucket cannot be read.
    """
    categories: dict[str, int] = {}
    with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as annotations:
        yield b'{"info": {"description": "anomaly export"}, "images": [\n'
        separator, number = b"", 0
        for row in rows:
            if not row["image_key"]:
                continue
            image = _image(row, archive)
            yield separator + as_json(image).encode()
            separator = b",\n"
            for annotation in _annotations(row, image, categories):
                annotations.write(b",\n" if number else b"")
                annotations.write(as_json({"id": (number := number + 1), **annotation}).encode())
        yield b'\n], "annotations": [\n'
        annotations.seek(0)
        while block := annotations.read(BLOCK_BYTES):
            yield block
        named = [{"id": each, "name": name} for name, each in categories.items()]
        yield b'\n], "categories": ' + as_json(named).encode() + b"}\n"


def _image(row: Row, archive: Archive) -> dict[str, Any]:
    width, height = row["image_width_px"], row["image_height_px"]
    if width is None or height is None:
        width, height = _size(archive.read(row["image_key"]))
    return {
        "id": row["record_id"],
        "file_name": file_name(row),
        "width": width,
        "height": height,
        "date_captured": row["captured_at"],
        "score": row["score"],
        "is_anomaly": row["is_anomaly"],
        "review": row["review"],
    }


def _size(content: bytes | None) -> tuple[int, int] | tuple[None, None]:
    """Return width and height by the head of an image, or None where it is gone or cannot be read."""
    try:
        with Image.open(io.BytesIO(content or b"")) as opened:
            return opened.size
    except UNREADABLE:
        return None, None


def _annotations(row: Row, image: dict[str, Any], categories: dict[str, int]) -> Iterator[dict[str, Any]]:
    width, height = image["width"], image["height"]
    if width is None or row["regions_unit"] != "fraction":
        return
    objects = [region for region in row["regions"] if isinstance(region, dict)]  # unless somebody has edited them
    for region in in_fractions(objects, STORED, width_px=1, height_px=1) or ():
        if "x" not in region:
            continue
        left, top, wide, high = region["x"] * width, region["y"] * height, region["width"] * width, region["height"] * height
        label = str(region.get("label") or row["label"] or LABEL)
        right, bottom = region["x"] + region["width"], region["y"] + region["height"]
        points = region.get("polygon") or [(region["x"], region["y"]), (right, region["y"]), (right, bottom), (region["x"], bottom)]
        yield {
            "image_id": row["record_id"],
            "category_id": categories.setdefault(label, len(categories) + 1),
            "bbox": [round(value, 2) for value in (left, top, wide, high)],
            "area": round(wide * high, 2),
            "segmentation": [[round(value, 2) for x, y in points for value in (x * width, y * height)]],
            "iscrowd": 0,
        }
