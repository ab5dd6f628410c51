"""AWS sessions and clients, and AWS's errors in our terms. The client side's only door to boto3."""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import botocore
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.utils import get_environ_proxies

from dask_root_lambda.config import Settings
from dask_root_lambda.invocation.connection import AbortableSession
from dask_root_lambda.invocation.invoking import InvokingClient
from dask_root_lambda.protocol.errors import (
    AccessError,
    ConfigurationError,
    DaskRootLambdaError,
    FunctionNotFoundError,
    InvocationError,
    NoAnswerError,
    NotReadyError,
    ServiceError,
    ThrottledError,
    TooLargeError,
    UnreachableError,
)

logger = logging.getLogger(__name__)

_CONTROL_READ_TIMEOUT_S = 10
_STORAGE_READ_TIMEOUT_S = 30
_CONTROL_ATTEMPTS = 3
_CONTROL_CONNECTIONS = 32
"""Connections that a client for control operations or storage keeps open."""

_OTHER_FILES = 512
"""Files that a process with Dask and ROOT in it has open, besides connections to functions."""

_USER_AGENT = f"Boto3/{boto3.__version__} dask-root-lambda Botocore/{botocore.__version__}"
"""What invocations are sent by, as AWS's logs tell."""


@dataclass(frozen=True)
class Identity:
    """Who the credentials belong to."""

    account: str
    """AWS's number of the account."""
    arn: str
    """ARN of the user or role."""
    date: str | None = None
    """AWS's time when it was asked, as HTTP writes it."""


class Session:
    """AWS as the settings describe it.

    Parameters
    ----------
    settings
        Profile, region, endpoint and timeouts.
    keys
        Access key and secret key; None takes the user's own, as boto3 finds them.

    Raises
    ------
    ConfigurationError
        No such profile, or no region.
    """

    def __init__(self, settings: Settings, keys: tuple[str, str] | None = None) -> None:
        self._settings = settings
        with translated("AWS is not configured (execution='emulated' needs no account)"):
            self._core = botocore.session.Session(profile=settings.profile)
            # AWS's other SDKs and its CLI read AWS_REGION; boto3 does not.
            region = settings.region or os.environ.get("AWS_REGION")
            if region:
                self._core.set_config_variable("region", region)
            if keys is not None:
                self._core.set_credentials(*keys)
            self._boto3 = boto3.Session(botocore_session=self._core)
            if self._boto3.region_name is None:
                raise boto.NoRegionError
            self._boto3.get_credentials()

    @property
    def region(self) -> str:
        """Name of the region."""
        return str(self._boto3.region_name)

    @property
    def endpoint(self) -> str | None:
        """Another endpoint than AWS's, from the settings or the environment; None for AWS itself."""
        return self._settings.endpoint_url or os.environ.get("AWS_ENDPOINT_URL") or None

    def identity(self) -> Identity:
        """Ask AWS whose credentials these are.

        Raises
        ------
        AccessError, UnreachableError
            They are wrong, or nothing answers.
        """
        with translated("the credentials cannot be used"):
            said = self.client("sts").get_caller_identity()
        headers = said.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return Identity(str(said["Account"]), str(said["Arn"]), headers.get("date"))

    @property
    def credential_source(self) -> str:
        """Where the credentials come from, as botocore calls it; never the credentials."""
        found = self._boto3.get_credentials()
        return str(found.method) if found is not None else "none"

    def client(self, service: str) -> Any:
        """Make a client for control operations and storage: short waits, the SDK's own retries."""
        config = Config(
            connect_timeout=self._settings.connect_timeout_s,
            read_timeout=_STORAGE_READ_TIMEOUT_S if service == "s3" else _CONTROL_READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": _CONTROL_ATTEMPTS},
            max_pool_connections=_CONTROL_CONNECTIONS,
            tcp_keepalive=True,
        )
        return self._boto3.client(service, endpoint_url=self._settings.endpoint_url, config=config)

    def invoking_client(self, *, connections: int, read_timeout_s: float) -> InvokingClient:
        """Make a Lambda client that invokes exactly once per call, and whose waits can be aborted.

        Parameters
        ----------
        connections
            Invocations in flight at most: as many connections are kept open.
        read_timeout_s
            Seconds to wait for an answer; above the function's own time limit.
        """
        _allow_connections(connections)
        timeout = (self._settings.connect_timeout_s, read_timeout_s)
        client = self._boto3.client("lambda", endpoint_url=self._settings.endpoint_url)
        http = AbortableSession(
            verify=self._core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE", True),
            proxies=get_environ_proxies(client.meta.endpoint_url),
            timeout=timeout,
            max_pool_connections=connections,
        )
        return InvokingClient(client, self._boto3.get_credentials(), http, _USER_AGENT)


def _allow_connections(connections: int) -> None:
    """Lift this process's limit of open files, commonly 1,024: each connection takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        logger.warning(
            "this process may open %d files, %d invocations in flight need %d: ask for less concurrency, or "
            "raise the limit (ulimit -n)",
            allowed,
            connections,
            wanted,
        )


_BY_CODE: dict[str, tuple[type[DaskRootLambdaError], str]] = {
    **dict.fromkeys(
        ("TooManyRequestsException", "ThrottlingException", "Throttling", "EC2ThrottledException"),
        (ThrottledError, "raise the concurrency quota, or ask for less concurrency"),
    ),
    **dict.fromkeys(
        ("AccessDeniedException", "AccessDenied", "KMSAccessDeniedException"),
        (AccessError, "the credentials lack this permission"),
    ),
    **dict.fromkeys(
        (
            "UnrecognizedClientException",
            "InvalidSignatureException",
            "InvalidClientTokenId",
            "SignatureDoesNotMatch",
            "MissingAuthenticationTokenException",
            "IncompleteSignatureException",
        ),
        (AccessError, "the credentials are wrong: check them with 'aws sts get-caller-identity'"),
    ),
    **dict.fromkeys(
        ("ExpiredTokenException", "ExpiredToken", "RequestExpired"),
        (AccessError, "the credentials have expired: renew them"),
    ),
    "ResourceNotFoundException": (
        FunctionNotFoundError,
        "check its name, version and region, or deploy it with 'dask-root-lambda deploy'",
    ),
    **dict.fromkeys(
        ("RequestTooLargeException", "RequestEntityTooLargeException"),
        (TooLargeError, "give the function a store"),
    ),
    **dict.fromkeys(
        (
            # Of an image that was not invoked for weeks; the invocation that is refused wakes it:
            # https://docs.aws.amazon.com/lambda/latest/dg/functions-states.html
            "CodeArtifactUserPendingException",
            "ResourceNotReadyException",
            "ResourceConflictException",
            "SnapStartNotReadyException",
        ),
        (NotReadyError, "the function is not ready yet: this may take minutes"),
    ),
    "SnapStartTimeoutException": (ServiceError, "the function is not ready yet"),
}
"""Error code of the service -> our error, and what to do."""

_BY_STATUS: dict[int, tuple[type[DaskRootLambdaError], str]] = {
    413: _BY_CODE["RequestTooLargeException"],
    429: _BY_CODE["TooManyRequestsException"],
}
"""Where the code is none of those: HTTP status -> our error, and what to do."""

_BY_TYPE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], type[DaskRootLambdaError], str], ...] = (
    (
        (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError),
        AccessError,
        "configure them with 'aws configure', a profile, or the environment",
    ),
    ((boto.SSOError, boto.TokenRetrievalError), AccessError, "log in again with 'aws sso login'"),
    (boto.ProfileNotFound, ConfigurationError, "check dask-root-lambda.aws.profile"),
    (boto.NoRegionError, ConfigurationError, "set AWS_REGION or dask-root-lambda.aws.region"),
    (
        (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError),
        UnreachableError,
        "check the network, the region and the endpoint",
    ),
    (boto.SSLError, UnreachableError, "check the certificates: AWS_CA_BUNDLE names another bundle"),
    (
        boto.ReadTimeoutError,
        NoAnswerError,
        "check the endpoint; a function that was invoked may be running still: see its logs",
    ),
    ((boto.HTTPClientError, boto.IncompleteReadError), ServiceError, "the connection broke"),
    ((ValueError, boto.BotoCoreError), ConfigurationError, "check the AWS settings"),
)
"""Error of the SDK -> our error, and what to do; the first that matches."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Translate the SDK's errors into ours.

    Parameters
    ----------
    what
        What was tried, for the message.
    """
    try:
        yield
    except boto.ClientError as error:
        raise _from_code(what, error) from error
    except (boto.BotoCoreError, boto.HTTPClientError, ValueError) as error:
        if isinstance(error, DaskRootLambdaError):
            raise
        kind, advice = next((kind, advice) for cause, kind, advice in _BY_TYPE if isinstance(error, cause))
        raise kind(f"{what}: {error}; {advice}") from error


def date_of(error: DaskRootLambdaError) -> str | None:
    """Return AWS's time when it refused a request, as HTTP writes it; None where AWS did not answer."""
    metadata = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {})
    date: str | None = metadata.get("HTTPHeaders", {}).get("date")
    return date


def _from_code(what: str, error: Any) -> DaskRootLambdaError:
    response = error.response
    metadata = response.get("ResponseMetadata", {})
    code, status = response.get("Error", {}).get("Code", ""), metadata.get("HTTPStatusCode", 0)
    other = (ServiceError, "the service failed") if status >= 500 else (InvocationError, "see the message")
    kind, advice = _BY_CODE.get(code) or _BY_STATUS.get(status, other)
    reason = response.get("Reason", "")
    return kind(
        f"{what}: {error}{f' ({reason})' if reason else ''}; {advice}", request_id=metadata.get("RequestId")
    )
