"""The cause of each error code, and how to fix it. `docs/error-codes.md` has the same texts."""

from __future__ import annotations

from typing import NamedTuple


class Advice(NamedTuple):
    """The cause of an error, and its fix."""

    cause: str
    fix: str


_BUCKET = "check the bucket and its connection with `anomaly doctor`"
_NOTHING = "nothing; it ends by itself"

ADVICE = {
    "image_not_found": Advice("404 or 410 from the image host", "restore the image or correct `image_url`, then requeue"),
    "image_denied": Advice(
        "another 4xx, or too many redirects", "add headers and hosts to the connection `anomaly_images`; test with `anomaly try-image`"
    ),
    "image_not_an_image": Advice("empty, or not in a supported format", "look at the file; correct `image_url`, then requeue"),
    "image_truncated": Advice("the file is incomplete", "upload the file again, then requeue"),
    "image_too_large": Advice("more bytes than `ANOMALY_IMAGE_MAX_BYTES`", "raise the setting, or store a smaller file, then requeue"),
    "image_too_many_pixels": Advice("more pixels than `ANOMALY_IMAGE_MAX_PX`", "raise the setting, or scale the image down, then requeue"),
    "address_blocked": Advice(
        "a malformed address, or a network, port or bucket from which images are not allowed",
        "correct `image_url`, or allow the network, port or bucket in the connection `anomaly_images`, then requeue",
    ),
    "image_too_expensive": Advice(
        "to decode it would take far more than an image of its size needs: too many tiles, strips, scans, chunks or profiles, or pixels "
        "without data; or the detector says so",
        "save the image again with an ordinary program, then requeue",
    ),
    "detector_refused": Advice("the detector rejects this image", "read its words in `last_error`; test with `anomaly try-detector`"),
    "image_unavailable": Advice(
        "the image host did not answer, or not completely", "check the host with `anomaly try-image`; later runs try again by themselves"
    ),
    "detector_failed": Advice("the detector did not answer, or answered with a server error", "read its log; later runs try again"),
    "detector_overloaded": Advice(
        "the detector is overloaded and sent no Retry-After (503)", "state its limits in its connection, or give it more capacity"
    ),
    "detector_answer_invalid": Advice(
        "the answer does not match the connection's description; `last_error` quotes it and names its key in the bucket",
        "correct the extra `answer` of the detector's connection; test with `anomaly try-detector --answer`",
    ),
    "internal_error": Advice("an exception that the project does not know, with its type", "report the traceback in the log as a bug"),
    "archive_unavailable": Advice("the bucket could not be read or written", _BUCKET),
    "database_unavailable": Advice("the records database could not be reached", "check the database with `anomaly doctor`"),
    "result_refused": Advice(
        "a constraint, a trigger or a limit of the records database, or of [your table](your-own-table.md), refuses the result",
        "read its words in `last_error`; correct the constraint, the trigger or `write_back`, then requeue",
    ),
    "source_write_failed": Advice(
        "the row of [your table](your-own-table.md) is locked", "end the transaction that holds the row; later runs try again"
    ),
    "detector_throttled": Advice(
        "the detector asks for a pause", "wait, or end a pause that is over with `anomaly resume-detector`; state the detector's limits"
    ),
    "detector_down": Advice("the detector or the bucket failed repeatedly", "check both with `anomaly doctor`; Airflow retries the task"),
    "source_row_invalid": Advice(
        "a row of [your table](your-own-table.md) has no address, no usable time of capture, or the key of another row",
        "correct the row, or leave it out by a condition",
    ),
    "worker_lost": Advice(
        "the worker died while it may have worked on this record", "check the worker's memory; if one image kills it, remove the image"
    ),
    "lease_lost": Advice("another task holds the record by now", _NOTHING),
    "chunk_incomplete": Advice("some records failed temporarily", "read the errors of its records with `anomaly errors`"),
    "interrupted": Advice("the task was asked to stop", _NOTHING),
    "misconfigured": Advice(
        "a setting, param, connection or the schema is missing or wrong", "follow its sentence, or run `anomaly doctor`"
    ),
    "detector_denied": Advice("the detector rejects the credentials", "correct the password of the detector's connection"),
    "out_of_credit": Advice("the detector account has no credit left", "add credit or raise the limit at the detector"),
    "failure_rate_exceeded": Advice(
        "more records failed than `max_failure_rate` allows, or all of them", "read the errors of its records with `anomaly errors`"
    ),
}
"""By error code. Names of commands and columns stand between backquotes, as in Markdown."""
