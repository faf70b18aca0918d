"""Translate errors of botocore."""

from __future__ import annotations

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from anomaly.errors import AnomalyError, ArchiveUnavailable, Misconfigured

FOREIGN = (BotoCoreError, ClientError)
EXISTS = frozenset({"PreconditionFailed", "412", "NotModified", "304"})
"""The object is there. Some servers answer 304 to a put with `If-None-Match: *`."""
RACED = frozenset({"ConditionalRequestConflict", "409"})
ABSENT = frozenset({"NoSuchKey", "NotFound", "404"})
_DENIED = (
    "access is denied; s3:GetObject, s3:PutObject and s3:ListBucket are needed, and s3:DeleteObject for maintenance; "
    "a policy may also demand the extra server_side_encryption"
)
_UNSUPPORTED = "the service does not support the request; puts with If-None-Match and a checksum are needed"
_REFUSED = "the bucket refuses the request as it is; its policy, encryption or Object Lock may demand something else"
_NEEDS_A_PERSON = {
    "NoSuchBucket": "there is no such bucket",
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "InvalidAccessKeyId": "the access key is unknown",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "AuthorizationHeaderMalformed": "the region is wrong",
    "PermanentRedirect": "the region is wrong",
    "301": "the region is wrong",
    "InvalidBucketName": "the bucket's name is not valid",
    "NotImplemented": _UNSUPPORTED,
    "501": _UNSUPPORTED,
    "MethodNotAllowed": _UNSUPPORTED,
    "405": _UNSUPPORTED,
    "InvalidRequest": _REFUSED,
    "InvalidArgument": _REFUSED,
    "KMS.NotFoundException": "there is no such KMS key; correct the extra sse_kms_key_id",
    "KMS.DisabledException": "the KMS key is disabled",
    "KMS.KMSInvalidStateException": "the KMS key is in a state in which it cannot be used",
    "KMS.InvalidKeyUsageException": "the KMS key is not one for encryption",
    "InvalidEncryptionAlgorithmError": "the service does not know the encryption; correct the extra server_side_encryption",
    "AllAccessDisabled": "access to the bucket is disabled",
    "AccountProblem": "there is a problem with the account",
    "NotSignedUp": "the account has no access to S3",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}

_FULL = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "507", "QuotaExceeded"})
_WRONG_OPTIONS = (
    boto.ConfigNotFound,
    boto.ConfigParseError,
    boto.InvalidConfigError,
    boto.InvalidProxiesConfigError,
    boto.InvalidRetryConfigurationError,
    boto.InvalidS3AddressingStyleError,
    boto.NoCredentialsError,
    boto.NoRegionError,
    boto.ParamValidationError,
    boto.PartialCredentialsError,
    boto.ProfileNotFound,
    boto.ValidationError,
)


def translated(exc: BotoCoreError | ClientError, what: str) -> AnomalyError:
    """Return the project's error for one of botocore; *what* begins its sentence."""
    if isinstance(exc, boto.ParamValidationError):  # its text is a page of patterns
        return Misconfigured(f"{what}: the bucket's name is not valid: it has neither s3:// nor a path")
    if isinstance(exc, ClientError):
        if code_of(exc) in _FULL:
            return ArchiveUnavailable(f"{what}: the storage of the bucket is full ({code_of(exc)})")
        reason = _NEEDS_A_PERSON.get(code_of(exc))
        return Misconfigured(f"{what}: {reason}") if reason else ArchiveUnavailable(f"{what}: answered {code_of(exc)}")
    if isinstance(exc, _WRONG_OPTIONS):
        return Misconfigured(f"{what}: {exc}")
    return ArchiveUnavailable(f"{what}: {type(exc).__name__}")


def code_of(exc: ClientError) -> str:
    """Return the error code of S3, or the status of a response without a body."""
    return str(exc.response.get("Error", {}).get("Code", ""))
