"""What the service's error codes mean, mapped once at the driver's edge; codes are data, classes are not looked at."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from queuekit.contract import BackendFull, DriverError, DriverRejected, DriverUnavailable

__all__ = ["DIFFERENT", "EXPIRED", "LOST", "MISSING", "Fate", "code_of", "entry_error", "fate_of", "translated"]

Fate: TypeAlias = Literal["refused", "unreachable", "throttled", "unknown"]
"""What became of a request that failed. `refused`: not applied, and repeating is no use. `unreachable`: it never left. `throttled`:
turned away, try again soon. `unknown`: it may have been applied."""

THROTTLED = {
    "ThrottlingException",
    "Throttling",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "SlowDown",
    "KmsThrottled",
    "KMS.ThrottlingException",
    "AWS.SimpleQueueService.KmsThrottled",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "503",
}
"""Turned away before anything was done (SQS developer guide, error responses: throttling and 503)."""
FULL = {"OverLimit", "AWS.SimpleQueueService.OverLimit"}
"""120,000 messages in flight: the queue lends nothing more until some are settled."""
MISSING = {
    "QueueDoesNotExist",
    "AWS.SimpleQueueService.NonExistentQueue",
    "AWS.SimpleQueueService.QueueDoesNotExist",
    "QueueDeletedRecently",
    "AWS.SimpleQueueService.QueueDeletedRecently",
}
DIFFERENT = {"QueueNameExists", "QueueAlreadyExists"}
"""The queue exists with other attributes than were asked for: somebody else's choice, which `diagnose` judges."""
LOST = {
    "ReceiptHandleIsInvalid",
    "MessageNotInflight",
    "AWS.SimpleQueueService.MessageNotInflight",
    "InvalidParameterValue",
    "InvalidParameterValueException",
}
"""Answers to a settlement or an extension whose lease is over: the service has several for the same thing."""
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
"""Credentials that were good and are over: the provider has newer ones, or will."""
SKEWED = {"RequestTimeTooSkewed", "SignatureDoesNotMatch", "InvalidSignatureException"}
DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "MissingAuthenticationToken",
    "IncompleteSignature",
    "OptInRequired",
    "KmsAccessDenied",
    "KMS.AccessDeniedException",
}
SERVER = range(500, 600)

NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)


def code_of(error: BaseException) -> str:
    """Return the service's own code; empty when the error is none of the service's."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))


def fate_of(error: BaseException) -> Fate:
    """Tell what became of a request that failed so."""
    if isinstance(error, ClientError):
        if code_of(error) in THROTTLED | EXPIRED:
            return "throttled"
        return "unknown" if _status(error) in SERVER else "refused"
    if isinstance(error, NoConnectionError):
        return "unreachable"
    return "unknown" if isinstance(error, HTTPClientError) else "refused"


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def translated(error: BaseException, *, doing: str) -> DriverError:
    """Return what the error means in queuekit's own words; the caller raises it from the original."""
    if isinstance(error, ClientError):
        return _meaning(code_of(error), _text(error), _status(error) in SERVER, doing)
    if isinstance(error, NO_CREDENTIALS):
        return DriverRejected(f"there are no credentials for SQS ({type(error).__name__}), while {doing}")
    if isinstance(error, SSLError):
        return DriverRejected(f"the connection to SQS cannot be trusted ({error}), while {doing}")
    if isinstance(error, HTTPClientError | NoConnectionError):
        return DriverUnavailable(f"SQS does not answer ({type(error).__name__}: {error}), while {doing}")
    if isinstance(error, BotoCoreError):
        return DriverRejected(f"{type(error).__name__} while {doing}: {error}")
    return DriverUnavailable(f"{type(error).__name__} while {doing}: {error}")


def entry_error(entry: Any, *, doing: str) -> DriverError:
    """Return what the failure of one entry of a batch means."""
    code = str(entry.get("Code", ""))
    return _meaning(code, str(entry.get("Message", "")), not entry.get("SenderFault", False), doing)


def _text(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Message", ""))


def _meaning(code: str, text: str, server: bool, doing: str) -> DriverError:
    said = f"{code}: {text}" if text else code
    if code in FULL:
        return BackendFull(f"too many messages are in flight, settle some first ({said}), while {doing}")
    if code in MISSING:
        return DriverRejected(
            f"the queue does not exist ({said}), while {doing}: create it, or let the driver do it with ?create=true"
        )
    if code in SKEWED:
        return DriverRejected(
            f"SQS refuses the signature ({said}), while {doing}: set this machine's clock, or check the secret key"
        )
    if code in DENIED:
        return DriverRejected(f"SQS denies access ({said}), while {doing}: see the permissions in docs/sqs.md")
    if code in THROTTLED | EXPIRED or server:
        return DriverUnavailable(f"SQS cannot serve now ({said}), while {doing}")
    return DriverRejected(f"SQS refuses ({said}), while {doing}")
