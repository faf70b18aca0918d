"""Every error of the project, classified by what happens next.

AnomalyError                        each has a stable `code`, which is stored and counted
├── RecordRejected                  quarantine the record now
│   ├── ImageNotFound
│   ├── ImageDenied
│   ├── ImageNotAnImage
│   ├── ImageTruncated
│   ├── ImageTooLarge
│   ├── ImageTooManyPixels
│   ├── AddressBlocked
│   └── DetectorRefused
├── Retryable                       this record again, later
│   ├── ImageUnavailable
│   ├── DetectorFailed
│   ├── DetectorOverloaded
│   ├── DetectorAnswerInvalid
│   ├── ArchiveUnavailable
│   ├── DatabaseUnavailable
│   └── Throttled                   the attempt is not counted
├── LeaseLost                       drop the record quietly: someone else holds it
├── TryEnded                        this try of the task ends; Airflow retries it after `delay_s`
│   ├── ChunkIncomplete
│   ├── DetectorDown
│   └── Interrupted
└── RunStopped                      release everything and fail without a retry
    ├── Misconfigured
    ├── DetectorDenied
    ├── OutOfCredit
    └── FailureRateExceeded
"""

from __future__ import annotations


class AnomalyError(Exception):
    """Base of every error that this project raises."""

    code = "anomaly_error"


class RecordRejected(AnomalyError):
    """This record can never succeed as it is."""

    code = "record_rejected"


class ImageNotFound(RecordRejected):
    """The image host says that there is no such image (404, 410)."""

    code = "image_not_found"


class ImageDenied(RecordRejected):
    """The image host refuses to hand the image out (other 4xx)."""

    code = "image_denied"


class ImageNotAnImage(RecordRejected):
    """What the address holds is empty or no image in a format that we read."""

    code = "image_not_an_image"


class ImageTruncated(RecordRejected):
    """The image ends before its end."""

    code = "image_truncated"


class ImageTooLarge(RecordRejected):
    """The image has more bytes than allowed."""

    code = "image_too_large"


class ImageTooManyPixels(RecordRejected):
    """The image has more pixels than allowed."""

    code = "image_too_many_pixels"


class AddressBlocked(RecordRejected):
    """The address is malformed, or leads into a network that images may not come from."""

    code = "address_blocked"


class DetectorRefused(RecordRejected):
    """The detector will not look at this image (400, 413, 415, 422, a refusal)."""

    code = "detector_refused"


class Retryable(AnomalyError):
    """It failed for now; the same record may succeed later."""

    code = "retryable"


class ImageUnavailable(Retryable):
    """The image host did not answer, or not in full, or with an error of its own."""

    code = "image_unavailable"


class DetectorFailed(Retryable):
    """The detector did not answer, or answered with an error of its own."""

    code = "detector_failed"


class DetectorOverloaded(Retryable):
    """The detector has no time for now, and does not say when it will have (503)."""

    code = "detector_overloaded"


class DetectorAnswerInvalid(Retryable):
    """The detector's answer is not what its connection says it should be."""

    code = "detector_answer_invalid"


class ArchiveUnavailable(Retryable):
    """The bucket could not be read or written."""

    code = "archive_unavailable"


class DatabaseUnavailable(Retryable):
    """The records database could not be reached, or did not answer in time."""

    code = "database_unavailable"


class Throttled(Retryable):
    """The detector asks us to hold back; it costs the record no attempt."""

    code = "detector_throttled"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LeaseLost(AnomalyError):
    """Someone else holds the record or the chunk by now; nothing of ours was changed."""

    code = "lease_lost"


class TryEnded(AnomalyError):
    """This try of the task is over with records left; the leases run on until the retry in *delay_s*."""

    code = "try_ended"

    def __init__(self, message: str, *, delay_s: float) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class ChunkIncomplete(TryEnded):
    """Some records of the chunk failed for now."""

    code = "chunk_incomplete"


class DetectorDown(TryEnded):
    """The detector or the bucket failed again and again, so nothing more was sent."""

    code = "detector_down"


class Interrupted(TryEnded):
    """The task was asked to stop; what it held was released."""

    code = "interrupted"


class RunStopped(AnomalyError):
    """Going on makes no sense until a person has changed something."""

    code = "run_stopped"


class Misconfigured(RunStopped):
    """A setting, a param, a connection or the schema is missing or wrong."""

    code = "misconfigured"


class DetectorDenied(RunStopped):
    """The detector does not accept our credentials (401, 403)."""

    code = "detector_denied"


class OutOfCredit(RunStopped):
    """The account at the detector is used up (402, a spend limit, a daily quota)."""

    code = "out_of_credit"


class FailureRateExceeded(RunStopped):
    """More of the run's records failed than `max_failure_rate` allows."""

    code = "failure_rate_exceeded"
