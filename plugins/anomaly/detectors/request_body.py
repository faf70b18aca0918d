"""Builds request bodies that carry an image. Its bytes are copied once, their base64 is not."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from anomaly.models.records import Image

_PLACEHOLDER = re.compile(r"\{(image_base64|media_type|sha256)\}")


class Body(Protocol):
    def __call__(self, image: Image) -> tuple[bytes, str]:
        """Return the body and its content type."""
        ...


def raw_bytes(image: Image) -> tuple[bytes, str]:
    return image.content, image.media_type


class Multipart:
    """A form with the image as its only file."""

    def __init__(self, name: str) -> None:
        self._name = json.dumps(name)

    def __call__(self, image: Image) -> tuple[bytes, str]:
        boundary = image.sha256  # it cannot occur in the content
        extension = image.media_type.rpartition("/")[2]
        disposition = f'Content-Disposition: form-data; name={self._name}; filename="image.{extension}"'
        head = f"--{boundary}\r\n{disposition}\r\nContent-Type: {image.media_type}\r\n\r\n"
        body = b"".join((head.encode(), image.content, f"\r\n--{boundary}--\r\n".encode()))
        return body, f"multipart/form-data; boundary={boundary}"


class Template:
    """A JSON document whose strings may hold the placeholders {image_base64}, {media_type} and {sha256}."""

    def __init__(self, document: Any) -> None:
        pieces = _PLACEHOLDER.split(json.dumps(document))
        self._pieces = [(piece if index % 2 else piece.encode()) for index, piece in enumerate(pieces)]

    def __call__(self, image: Image) -> tuple[bytes, str]:
        values = {"image_base64": b64encode(image.content), "media_type": image.media_type.encode(), "sha256": image.sha256.encode()}
        body = b"".join(values[piece] if isinstance(piece, str) else piece for piece in self._pieces)
        return body, "application/json"
