"""The errors for an image that is not judged.

DetectorError               each has the `status` and the `code` of its HTTP answer
├── RequestMalformed        400
├── KeyReused               422
├── MediaTypeUnsupported    415
├── ImageTooLarge           413
├── ImageTooManyPixels      413
├── ImageTooExpensive       422
├── ImageUnreadable         422
├── NotReady                503, with Retry-After
└── Overloaded              503, with Retry-After
"""

from __future__ import annotations


class DetectorError(Exception):
    """Base class of all errors of a request."""

    status = 500
    code = "internal_error"
    retry_after_s: int | None = None


class RequestMalformed(DetectorError):
    """Raised when the request is empty, or a parameter or a header is invalid."""

    status, code = 400, "request_malformed"


class KeyReused(DetectorError):
    """Raised when an earlier request used the Idempotency-Key with another image or other parameters."""

    status, code = 422, "idempotency_key_reused"


class MediaTypeUnsupported(DetectorError):
    """Raised when the content type is not that of an image, or the image has an unsupported format."""

    status, code = 415, "media_type_unsupported"


class ImageTooLarge(DetectorError):
    """Raised when the image has more bytes than allowed."""

    status, code = 413, "image_too_large"


class ImageTooManyPixels(DetectorError):
    """Raised when the image has more pixels than allowed. It is not decoded."""

    status, code = 413, "image_too_many_pixels"


class ImageTooExpensive(DetectorError):
    """Raised when decoding the image takes more memory or time than allowed."""

    status, code = 422, "image_too_expensive"


class ImageUnreadable(DetectorError):
    """Raised when the image is truncated or damaged."""

    status, code = 422, "image_unreadable"


class NotReady(DetectorError):
    """Raised while the detector is being fitted."""

    status, code, retry_after_s = 503, "not_ready", 1


class Overloaded(DetectorError):
    """Raised when the queue of images is full, or no process can be started for one."""

    status, code, retry_after_s = 503, "overloaded", 1
