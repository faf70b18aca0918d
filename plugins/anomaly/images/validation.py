"""Validate downloaded bytes: a complete image in a supported format, of limited size."""

from __future__ import annotations

import hashlib
import io
from functools import cache
from typing import TYPE_CHECKING

from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin
from PIL import Image as Pillow

from anomaly.errors import AnomalyError, ImageNotAnImage, ImageTooManyPixels, ImageTruncated
from anomaly.models.records import Image

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # a JPEG followed by more images
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
# Imported here, so that the first threads that need the plugins do not import them all at once.
_PLUGINS = (JpegImagePlugin.JpegImageFile, PngImagePlugin.PngImageFile, WebPImagePlugin.WebPImageFile, GifImagePlugin.GifImageFile)
_FORMATS = [plugin.format for plugin in (*_PLUGINS, BmpImagePlugin.BmpImageFile, TiffImagePlugin.TiffImageFile) if plugin.format]
_JPEG, _JPEG_END, _JPEG_SCAN = b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_RIFF_HEADER_BYTES = 8

# Its limit is process-wide and warns where threads cannot catch it. `_check` refuses large images before they are decoded.
Pillow.MAX_IMAGE_PIXELS = None


@cache
def plain_image() -> Image:
    """Return a grey image of 256 x 256 pixels."""
    out = io.BytesIO()
    Pillow.new("L", (256, 256), 128).save(out, "PNG")
    return validated(out.getvalue(), max_px=256 * 256, source="plain image")


def validated(content: bytes, *, max_px: int, source: str) -> Image:
    """Return *content* as an image; *source* names its origin in messages.

    Raises:
        ImageNotAnImage: it is empty, not an image, broken, or in an unsupported format.
        ImageTruncated: its end is missing.
        ImageTooManyPixels: its header announces more than *max_px*.
    """
    if not content:
        raise ImageNotAnImage(f"{source}: empty")
    try:
        with Pillow.open(io.BytesIO(content), formats=_FORMATS) as opened:
            _check(opened, content, max_px, source)
            media_type, (width, height) = MEDIA_TYPES[opened.format or ""], opened.size
    except AnomalyError:
        raise
    except Exception as exc:  # hostile bytes make Pillow's plugins raise anything
        raise _broken(content, exc, source) from exc
    return Image(content=content, sha256=hashlib.sha256(content).hexdigest(), media_type=media_type, width_px=width, height_px=height)


def _check(opened: ImageFile, content: bytes, max_px: int, source: str) -> None:
    width, height = opened.size
    if width * height > max_px:
        raise ImageTooManyPixels(f"{source}: {width} x {height} pixels, more than {max_px}")
    if content.startswith(_JPEG):
        if not _has_jpeg_end(content):
            opened.load()
    elif _is_cut(content):
        raise _broken(content, None, source)
    elif content.startswith(_PNG):
        opened.verify()  # reads checksums, decodes nothing
    else:
        opened.load()


def _has_jpeg_end(content: bytes) -> bool:
    """Return whether the last end marker comes after the start of the last scan.

    Inside a scan FF is always escaped, so the marker cannot be picture data; a marker before the scan is a thumbnail's. Without
    it the image may still be complete, as anything may follow an image, so the caller then decodes it.
    """
    return content.endswith(_JPEG_END) or content.rfind(_JPEG_END) > content.rfind(_JPEG_SCAN)


def _broken(content: bytes, cause: Exception | None, source: str) -> AnomalyError:
    if _is_cut(content) or "truncated" in str(cause).lower():
        return ImageTruncated(f"{source}: ends before its end, after {len(content)} bytes")
    if isinstance(cause, UnidentifiedImageError):
        return ImageNotAnImage(f"{source}: no image in a format that we read ({len(content)} bytes)")
    return ImageNotAnImage(f"{source}: a broken image ({type(cause).__name__}, {len(content)} bytes)")


def _is_cut(content: bytes) -> bool:
    """Return whether the bytes that must end an image of this format are missing."""
    if content.startswith(_JPEG):
        return not _has_jpeg_end(content)
    if content.startswith(_PNG):
        return content.rfind(_PNG_END) < 0  # faster from the end
    if content.startswith(b"RIFF"):
        return len(content) < _RIFF_HEADER_BYTES + int.from_bytes(content[4:_RIFF_HEADER_BYTES], "little")
    return False
