"""The errors of the project, classified by what happens next.

AnomalyError                        each error has a stable `code`, which is stored and counted
├── RecordRejected                  the record is quarantined
│   ├── ImageNotFound, ImageDenied, AddressBlocked
│   ├── ImageNotAnImage, ImageTruncated
│   ├── ImageTooLarge, ImageTooManyPixels, ImageTooExpensive
│   └── DetectorRefused
├── Retryable                       the record is tried again later
│   ├── ImageUnavailable
│   ├── DetectorFailed, DetectorOverloaded, DetectorAnswerInvalid
│   ├── ArchiveUnavailable, DatabaseUnavailable
│   ├── InternalError, ResultRefused
│   ├── SourceWriteFailed           in db/errors.py
│   └── Throttled                   no attempt is counted
├── LeaseLost                       the record is dropped, since another task holds it
├── TryEnded                        this try of the task ends, and Airflow retries it after `delay_s`
│   ├── ChunkIncomplete
│   ├── DetectorDown
│   └── Interrupted
└── RunStopped                      all records are released, and the task fails without a retry
    ├── Misconfigured
    ├── DetectorDenied
    ├── OutOfCredit
    └── FailureRateExceeded
"""

from __future__ import annotations

from anomaly.escaping import escaped


class AnomalyError(Exception):
    """Base class of all errors of the project. Their sentences may quote what comes from outside, and are one printable line."""

    code = "anomaly_error"
    may_concern_run = False
    """True if the same failure of every record means that a setting is wrong."""
    _run_error: type[RunStopped] | None = None

    def __str__(self) -> str:
        return escaped(super().__str__())

    @property
    def run_error(self) -> type[RunStopped]:
        """The error that stops the run if this one concerns all records."""
        return self._run_error or Misconfigured


class RecordRejected(AnomalyError):
    """Raised when a record can never succeed as it is."""

    code = "record_rejected"


class ImageNotFound(RecordRejected):
    """Raised when the image host has no such image (404, 410)."""

    code = "image_not_found"


class ImageDenied(RecordRejected):
    """Raised when the image host refuses the request (another 4xx, or too many redirects)."""

    code = "image_denied"
    may_concern_run = True


class ImageNotAnImage(RecordRejected):
    """Raised when a download is empty, or not an image in a supported format."""

    code = "image_not_an_image"


class ImageTruncated(RecordRejected):
    """Raised when an image is cut off."""

    code = "image_truncated"


class ImageTooLarge(RecordRejected):
    """Raised when an image has more bytes than allowed."""

    code = "image_too_large"


class ImageTooManyPixels(RecordRejected):
    """Raised when an image has more pixels than allowed."""

    code = "image_too_many_pixels"


class ImageTooExpensive(RecordRejected):
    """Raised when decoding an image would take far more memory or time than an image of its size needs."""

    code = "image_too_expensive"


class AddressBlocked(RecordRejected):
    """Raised when the address of an image is malformed, or leads to a network that images may not come from."""

    code = "address_blocked"

    def __init__(self, message: str, *, by_network: bool = False) -> None:
        super().__init__(message)
        self.may_concern_run = by_network  # a rule that refuses every address is a wrong setting


class DetectorRefused(RecordRejected):
    """Raised when the detector rejects a request (most 4xx, a refusal): about any image, or *by_content* about this one alone."""

    code = "detector_refused"

    def __init__(self, message: str, *, run_error: type[RunStopped] | None = None, by_content: bool = False) -> None:
        super().__init__(message)
        self._run_error, self.may_concern_run = run_error, not by_content


class Retryable(AnomalyError):
    """Raised when a record failed for now and may succeed later."""

    code = "retryable"


class ImageUnavailable(Retryable):
    """Raised when the image host did not answer, answered in part, or failed (5xx)."""

    code = "image_unavailable"


class DetectorFailed(Retryable):
    """Raised when the detector did not answer, or failed (5xx)."""

    code = "detector_failed"


class DetectorOverloaded(Retryable):
    """Raised when the detector is overloaded and states no time to wait (503)."""

    code = "detector_overloaded"


class DetectorAnswerInvalid(Retryable):
    """Raised when the detector's answer does not match its connection. *begins* quotes it; *raw* is at most 64 KiB of it."""

    code = "detector_answer_invalid"
    may_concern_run = True

    def __init__(self, message: str, *, begins: str = "", raw: bytes = b"", image_sha256: str = "") -> None:
        super().__init__(f"{message}; the answer begins: {begins}" if begins else message)
        self.message, self.begins, self.raw, self.image_sha256 = message, begins, raw, image_sha256


class ResultRefused(Retryable):
    """Raised when a constraint, a trigger or a limit of the database refuses a result. Nothing was written."""

    code = "result_refused"
    may_concern_run = True


class InternalError(Retryable):
    """Raised when a record fails with an exception that the project does not know. It concerns this record alone."""

    code = "internal_error"


class ArchiveUnavailable(Retryable):
    """Raised when the bucket could not be read or written."""

    code = "archive_unavailable"


class DatabaseUnavailable(Retryable):
    """Raised when the records database could not be reached, or did not answer in time."""

    code = "database_unavailable"


class Throttled(Retryable):
    """Raised when the detector asks for a pause of *retry_after_s*. No attempt is counted."""

    code = "detector_throttled"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LeaseLost(AnomalyError):
    """Raised when another task holds the record or the chunk. Nothing was changed."""

    code = "lease_lost"


class TryEnded(AnomalyError):
    """Raised when a try of a task ends with records left. Their leases last until the retry after *delay_s*."""

    code = "try_ended"

    def __init__(self, message: str, *, delay_s: float) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class ChunkIncomplete(TryEnded):
    """Raised when some records of the task failed for now."""

    code = "chunk_incomplete"


class DetectorDown(TryEnded):
    """Raised when the detector, the bucket or the database keeps failing."""

    code = "detector_down"


class Interrupted(TryEnded):
    """Raised when the task was asked to stop. Its records were released."""

    code = "interrupted"


class RunStopped(AnomalyError):
    """Raised when a person has to fix something before the run can continue."""

    code = "run_stopped"


class Misconfigured(RunStopped):
    """Raised when a setting, a param, a connection or the schema is missing or wrong."""

    code = "misconfigured"


class DetectorDenied(RunStopped):
    """Raised when the detector refuses the credentials (401, 403)."""

    code = "detector_denied"


class OutOfCredit(RunStopped):
    """Raised when the account at the detector is used up (402, a spend limit, a daily quota)."""

    code = "out_of_credit"


class FailureRateExceeded(RunStopped):
    """Raised when more of the run's records failed than `max_failure_rate` allows."""

    code = "failure_rate_exceeded"
