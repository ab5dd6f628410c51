"""Everything that can go wrong, as one tree.

::

    DaskRootLambdaError
    ├── ConfigurationError        a setting that cannot work, an extra that is not installed
    ├── InputError                the data: missing, truncated, changed, not reachable from there
    │   └── UnavailableInputError     its storage did not answer, or not in time
    ├── GraphError                a call on an RDataFrame that cannot work
    ├── InvocationError           the function was not run, or did not answer
    │   ├── ThrottledError            too many at once (429)
    │   │   └── NotReadyError             the function is being made, or woken after weeks
    │   ├── ServiceError              the service failed or the connection broke
    │   ├── AccessError               credentials missing, wrong or without permission
    │   ├── FunctionNotFoundError     no such function, version or alias
    │   ├── UnreachableError          nothing answers at the endpoint
    │   └── NoAnswerError             the deadline passed
    ├── ExecutionEnvironmentError         the execution environment did not run the task to its end
    │   ├── FunctionTimeoutError      the function's time limit
    │   ├── OutOfMemoryError          the function's memory limit
    │   ├── CrashError                an exit or a signal
    │   ├── KilledError               ended from outside, with memory left
    │   ├── FullStorageError          what is written does not fit into /tmp
    │   ├── BrokenEnvironmentError    our own code failed there: a full disk, a defect
    │   └── InitError                 the environment did not start
    ├── RemoteError               code raised where the task ran
    │   ├── UserCodeError             the user's Python, or C++ that threw
    │   └── CompilationError          the user's C++ did not compile
    ├── ProtocolError             the two sides do not understand each other
    │   ├── VersionMismatchError      Python, ROOT or wire version
    │   ├── CorruptBlobError          bytes that are not what was sent
    │   │   └── DamagedBlobError          what lies in a store is not what was put there
    │   └── TooLargeError             over the service's size limit, and no store to go through
    ├── StoreError                the store of blobs failed
    │   └── MissingBlobError          no such blob
    │       └── MissingMapperError        the graph that was put there before
    ├── DeploymentError           deploying did not work, or what is deployed is damaged
    │   └── DeploymentNotFoundError   no deployment of that name in this account and region
    ├── CostLimitError            what the user allows was spent
    ├── DeadlineError             the time that the user allows is over
    ├── IncompleteResultError     fewer or more entries processed than the dataset has
    └── RunCancelledError         stopped on request

Every error says what happened, with the values, and what to do. ``retryable`` tells whether the same
task may succeed when tried again; decisions are made by type, never by message.
"""

from __future__ import annotations

from typing import ClassVar


class DaskRootLambdaError(Exception):
    """Root of the tree.

    Parameters
    ----------
    message
        What happened, with the values, and what to do.
    task
        Key of the task it happened to.
    attempt
        Which try of that task it was, from 1.
    request_id
        AWS's identifier of the invocation, to find it in the logs.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        task: str | None = None,
        attempt: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.task = task
        self.attempt = attempt
        self.request_id = request_id
        self.place: str | None = None
        """Files and entries of the range."""
        self.logs: str | None = None
        """The command that shows the log of the invocation."""
        self.others: tuple[str, ...] = ()
        """The first of the ranges of its run that failed besides, a line each."""
        self.n_others = 0
        """How many these are."""

    @property
    def message(self) -> str:
        """The message without the task it happened to."""
        return str(self.args[0])

    @property
    def found_by(self) -> str:
        """What leads to the log of the invocation; empty where there was none."""
        return self.logs or (f"request {self.request_id}" if self.request_id else "")

    def __str__(self) -> str:
        return f"{self._told()}{self._told_of_others()}"

    def _told(self) -> str:
        where = [
            ("task", self.task),
            ("attempt", self.attempt),
            ("reads", self.place),
            ("request", self.request_id),
            ("log:", self.logs),
        ]
        known = ", ".join(f"{name} {value}" for name, value in where if value is not None)
        return f"{self.message} [{known}]" if known else self.message

    def _told_of_others(self) -> str:
        if not self.n_others:
            return ""
        left = self.n_others - len(self.others)
        lines = (*self.others, *((f"and {left:,} more",) if left else ()))
        return f"\n\n{self.n_others:,} more of the run's ranges failed:\n" + "\n".join(lines)


class ConfigurationError(DaskRootLambdaError, ValueError):
    """A setting that cannot work, or an optional package that is not installed."""


class InputError(DaskRootLambdaError):
    """The dataset cannot be read as asked: missing, truncated, changed, or out of the function's reach."""


class UnavailableInputError(InputError):
    """The storage of the data did not answer, not in time, or too slowly; it may later."""

    retryable = True


class GraphError(DaskRootLambdaError, ValueError):
    """A call on an RDataFrame that cannot work: unknown column, bad expression, unsupported operation."""


class InvocationError(DaskRootLambdaError):
    """The function was not run, or its answer did not arrive."""


class ThrottledError(InvocationError):
    """Too many invocations at once; the function was not run."""

    retryable = True


class NotReadyError(ThrottledError):
    """AWS is still making the function, or making it again after weeks without a call; it was not run."""


class ServiceError(InvocationError):
    """The service failed, or the connection broke before the answer."""

    retryable = True


class AccessError(InvocationError):
    """Credentials are missing, wrong, expired or lack a permission."""


class FunctionNotFoundError(InvocationError):
    """There is no such function, version or alias."""


class UnreachableError(InvocationError):
    """Nothing answers at the endpoint."""

    retryable = True


class NoAnswerError(InvocationError):
    """The deadline passed without an answer; the function may be running still."""

    retryable = True


class ExecutionEnvironmentError(DaskRootLambdaError):
    """The execution environment did not run the task to its end."""


class FunctionTimeoutError(ExecutionEnvironmentError):
    """The task took longer than the function's time limit. A range is divided, and its parts are tried."""

    retryable = True


class OutOfMemoryError(ExecutionEnvironmentError):
    """The task needed more than the function's memory.

    It is tried with more, where the deployment has it; then a range is divided, and its parts are tried.
    """


class CrashError(ExecutionEnvironmentError):
    """The process exited or was ended by a signal, such as a segmentation fault in user code."""

    retryable = True


class KilledError(ExecutionEnvironmentError):
    """The environment was ended from outside (SIGKILL), though its memory was far from its limit."""

    retryable = True


class FullStorageError(ExecutionEnvironmentError):
    """What the task writes does not fit into the environment's /tmp: smaller ranges do."""


class BrokenEnvironmentError(ExecutionEnvironmentError):
    """What we do in an environment failed, not the user's code: a full disk, a defect."""

    retryable = True


class InitError(ExecutionEnvironmentError):
    """The environment did not start: an import failed, or start-up took too long."""


class RemoteError(DaskRootLambdaError):
    """Code raised where the task ran.

    Parameters
    ----------
    type_name
        Qualified name of the exception's type there.
    traceback
        The traceback there, as text.
    diagnostics
        What ROOT and Cling reported meanwhile, with the user's line.
    """

    def __init__(
        self,
        message: str,
        *,
        type_name: str = "",
        traceback: str = "",
        diagnostics: str = "",
        task: str | None = None,
        attempt: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, task=task, attempt=attempt, request_id=request_id)
        self.type_name = type_name
        self.traceback = traceback
        self.diagnostics = diagnostics

    def __str__(self) -> str:
        parts = [self._told()]
        if self.diagnostics:
            parts.append(f"ROOT reported:\n{self.diagnostics.rstrip()}")
        if self.traceback:
            parts.append(f"Where it ran:\n{self.traceback.rstrip()}")
        return "\n\n".join(parts) + self._told_of_others()


class UserCodeError(RemoteError, RuntimeError):
    """The user's Python raised, or the user's C++ threw, for which ROOT raises a ``RuntimeError``."""


class CompilationError(RemoteError, RuntimeError):
    """The user's C++ did not compile; ``diagnostics`` holds Cling's messages."""


class ProtocolError(DaskRootLambdaError):
    """The two sides do not understand each other."""


class VersionMismatchError(ProtocolError):
    """Python, ROOT or the wire format differ between client and function."""


class CorruptBlobError(ProtocolError):
    """Bytes that are not what was sent."""

    retryable = True


class DamagedBlobError(CorruptBlobError):
    """What lies in a store is not what was put there; the run that is tried again computes it anew."""


class TooLargeError(ProtocolError):
    """A payload or result over the service's limit, and no store to go through."""


class StoreError(DaskRootLambdaError):
    """The store of blobs failed."""

    retryable = True


class MissingBlobError(StoreError):
    """There is no blob under that key."""


class MissingMapperError(MissingBlobError):
    """The graph of a range, put into the store before, is not there any more."""


class DeploymentError(DaskRootLambdaError):
    """Deploying did not work: Terraform, the image, or what is in the way; or what is deployed is damaged."""


class DeploymentNotFoundError(DeploymentError):
    """There is no deployment of that name in this account and region."""


class CostLimitError(DaskRootLambdaError):
    """The user's limit of costs is reached; what was computed is kept."""


class DeadlineError(DaskRootLambdaError):
    """A range or a run has taken longer than the user allows."""


class IncompleteResultError(DaskRootLambdaError):
    """The entries that were processed are not those of the dataset."""


class RunCancelledError(DaskRootLambdaError):
    """The run was stopped on request."""
