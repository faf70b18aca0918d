"""Judges downloaded bytes: an image in a format that we read, whole, and of bearable size."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin
from PIL import Image as Pillow

from anomaly.errors import AnomalyError, ImageNotAnImage, ImageTooManyPixels, ImageTruncated
from anomaly.models.records import Image

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # a JPEG that more images follow
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
# Imported here, the plugins are not imported by the first threads that need them, all at once.
_PLUGINS = (JpegImagePlugin.JpegImageFile, PngImagePlugin.PngImageFile, WebPImagePlugin.WebPImageFile, GifImagePlugin.GifImageFile)
_FORMATS = [plugin.format for plugin in (*_PLUGINS, BmpImagePlugin.BmpImageFile, TiffImagePlugin.TiffImageFile)]
_JPEG, _JPEG_END, _JPEG_SCAN = b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_RIFF_HEADER_BYTES = 8

# Its limit is process-wide, warns where threads cannot catch it, and is not ours: `_judge` refuses before anything is decoded.
Pillow.MAX_IMAGE_PIXELS = None


def checked(content: bytes, *, max_px: int, source: str) -> Image:
    """Return the image that *content* is; *source* names its origin in messages.

    Raises:
        ImageNotAnImage: it is empty, no image, broken, or in a format that we do not read.
        ImageTruncated: it ends before its end.
        ImageTooManyPixels: its header announces more than *max_px*.
    """
    if not content:
        raise ImageNotAnImage(f"{source}: empty")
    try:
        with Pillow.open(io.BytesIO(content), formats=_FORMATS) as opened:
            _judge(opened, content, max_px, source)
            media_type, (width, height) = MEDIA_TYPES[opened.format or ""], opened.size
    except AnomalyError:
        raise
    except Exception as exc:  # hostile bytes lead Pillow's plugins into errors of any kind
        raise _broken(content, exc, source) from exc
    return Image(content=content, sha256=hashlib.sha256(content).hexdigest(), media_type=media_type, width_px=width, height_px=height)


def _judge(opened: ImageFile, content: bytes, max_px: int, source: str) -> None:
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
    """The last end marker comes after the last scan began.

    Inside a scan FF is always stuffed, so the marker cannot be picture data; one before the scan is a thumbnail's. The
    converse does not hold (anything may follow an image), so without it the image is decoded to know.
    """
    return content.endswith(_JPEG_END) or content.rfind(_JPEG_END) > content.rfind(_JPEG_SCAN)


def _broken(content: bytes, cause: Exception | None, source: str) -> AnomalyError:
    if _is_cut(content) or "truncated" in str(cause).lower():
        return ImageTruncated(f"{source}: ends before its end, after {len(content)} bytes")
    if isinstance(cause, UnidentifiedImageError):
        return ImageNotAnImage(f"{source}: no image in a format that we read ({len(content)} bytes)")
    return ImageNotAnImage(f"{source}: a broken image ({type(cause).__name__}, {len(content)} bytes)")


def _is_cut(content: bytes) -> bool:
    """A known kind of image without what must stand at its end."""
    if content.startswith(_JPEG):
        return not _has_jpeg_end(content)
    if content.startswith(_PNG):
        return content.rfind(_PNG_END) < 0  # from the end, where it is
    if content.startswith(b"RIFF"):
        return len(content) < _RIFF_HEADER_BYTES + int.from_bytes(content[4:_RIFF_HEADER_BYTES], "little")
    return False
