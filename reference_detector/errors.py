"""Why an image is not looked at.

DetectorError               each has the `status` and the `code` of its HTTP answer
├── RequestMalformed        400
├── KeyReused               422
├── MediaTypeUnsupported    415
├── ImageTooLarge           413
├── ImageTooManyPixels      413
├── ImageUnreadable         422
├── NotReady                503, with Retry-After
└── Overloaded              503, with Retry-After
"""

from __future__ import annotations


class DetectorError(Exception):
    """Base of all that the service refuses."""

    status = 500
    code = "internal_error"
    retry_after_s: int | None = None


class RequestMalformed(DetectorError):
    """The request is empty, or has a parameter or a header that makes no sense."""

    status, code = 400, "request_malformed"


class KeyReused(DetectorError):
    """The Idempotency-Key came before, with another image or another question."""

    status, code = 422, "idempotency_key_reused"


class MediaTypeUnsupported(DetectorError):
    """The content type is no image's, or the image is of a format that is not read."""

    status, code = 415, "media_type_unsupported"


class ImageTooLarge(DetectorError):
    """The image has more bytes than allowed."""

    status, code = 413, "image_too_large"


class ImageTooManyPixels(DetectorError):
    """The image would have more pixels than allowed; it was not decoded."""

    status, code = 413, "image_too_many_pixels"


class ImageUnreadable(DetectorError):
    """The image is truncated or damaged."""

    status, code = 422, "image_unreadable"


class NotReady(DetectorError):
    """The detector is still being fitted."""

    status, code, retry_after_s = 503, "not_ready", 1


class Overloaded(DetectorError):
    """As many images wait as may wait."""

    status, code, retry_after_s = 503, "overloaded", 1
