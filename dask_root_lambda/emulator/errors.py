"""Errors of the Lambda API, as AWS documents them.

::

    ApiError
    ├── AccessDeniedError           403
    ├── ResourceNotFoundError       404
    ├── ResourceConflictError       409
    ├── InvalidParameterError       400
    ├── ValidationError             400
    ├── InvalidContentError         400
    ├── PreconditionFailedError     412
    ├── RequestTooLargeError        413
    ├── TooManyRequestsError        429
    ├── SnapStartError              400
    ├── SnapStartTimeoutError       408
    ├── SnapStartNotReadyError      409
    ├── ServiceError                500
    ├── ServiceUnavailableError     503
    └── NotEmulatedError            501   ours: the operation exists on AWS and not here

Source: https://docs.aws.amazon.com/lambda/latest/api/CommonErrors.html and the pages of the operations.
"""

from __future__ import annotations

import json

from dask_root_lambda.emulator.endpoint import Response


class ApiError(Exception):
    """An error that the Lambda API answers with.

    Parameters
    ----------
    message
        For the user.
    """

    status = 500
    code = "ServiceException"
    # AWS's models disagree on the letter's case, and generated SDKs follow the models.
    message_key = "Message"
    fault = "User"

    def __init__(self, message: str) -> None:
        super().__init__(message)

    def response(self, request_id: str) -> Response:
        """Word the error as AWS sends it."""
        headers = (
            ("Content-Type", "application/json"),
            ("x-amzn-RequestId", request_id),
            ("x-amzn-ErrorType", self.code),
            *self.extra_headers(),
        )
        return Response(self.status, headers, json.dumps(self.document()).encode())

    def document(self) -> dict[str, str]:
        """Make the body of the answer."""
        return {"Type": self.fault, self.message_key: str(self)}

    def extra_headers(self) -> tuple[tuple[str, str], ...]:
        """Add headers to those of every error."""
        return ()


class AccessDeniedError(ApiError):
    """The resource is another account's."""

    status = 403
    code = "AccessDeniedException"


class ResourceNotFoundError(ApiError):
    """No function, version or alias of that name."""

    status = 404
    code = "ResourceNotFoundException"


class ResourceConflictError(ApiError):
    """The resource exists already, or another operation is in progress on it."""

    status = 409
    code = "ResourceConflictException"
    message_key = "message"


class InvalidParameterError(ApiError):
    """A parameter's value is not allowed."""

    status = 400
    code = "InvalidParameterValueException"
    message_key = "message"


class ValidationError(ApiError):
    """A parameter is missing, or does not have the form that the API's model demands."""

    status = 400
    code = "ValidationException"
    message_key = "message"


class PreconditionFailedError(ApiError):
    """The resource has another revision than the caller thinks."""

    status = 412
    code = "PreconditionFailedException"


class InvalidContentError(ApiError):
    """The event is not JSON."""

    status = 400
    code = "InvalidRequestContentException"
    message_key = "message"


class RequestTooLargeError(ApiError):
    """The event is over the limit of its invocation type."""

    status = 413
    code = "RequestTooLargeException"
    message_key = "message"


class TooManyRequestsError(ApiError):
    """A concurrency or rate limit is reached.

    Parameters
    ----------
    reason
        One of AWS's ``ThrottleReason``.
    """

    status = 429
    code = "TooManyRequestsException"
    message_key = "message"
    # AWS documents the header, not its values.
    retry_after_s = 1

    def __init__(self, reason: str) -> None:
        super().__init__("Rate Exceeded.")
        self.reason = reason

    def document(self) -> dict[str, str]:
        """Add the reason."""
        return {"Reason": self.reason, **super().document()}

    def extra_headers(self) -> tuple[tuple[str, str], ...]:
        """Add the time to wait."""
        return (("Retry-After", str(self.retry_after_s)),)


class SnapStartError(ApiError):
    """A hook after the restore raised."""

    status = 400
    code = "SnapStartException"


class SnapStartTimeoutError(ApiError):
    """The restore took too long."""

    status = 408
    code = "SnapStartTimeoutException"


class SnapStartNotReadyError(ApiError):
    """The snapshot of the version is not there yet."""

    status = 409
    code = "SnapStartNotReadyException"


class ServiceError(ApiError):
    """Lambda itself has a problem."""

    fault = "Service"


class ServiceUnavailableError(ApiError):
    """Lambda itself has a problem that passes."""

    status = 503
    code = "ServiceUnavailableException"
    fault = "Service"


class NotEmulatedError(ApiError):
    """The operation exists on AWS, and not in this emulator."""

    status = 501
    code = "NotEmulatedException"
    message_key = "message"
