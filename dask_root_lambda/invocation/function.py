"""A function as AWS describes it, and what went wrong where it did not answer."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

from dask_root_lambda.config import Settings
from dask_root_lambda.cost import billing
from dask_root_lambda.invocation import aws
from dask_root_lambda.protocol.errors import (
    BrokenEnvironmentError,
    CrashError,
    DaskRootLambdaError,
    DeploymentError,
    FunctionTimeoutError,
    InitError,
    KilledError,
    OutOfMemoryError,
    TooLargeError,
)
from dask_root_lambda.protocol.store import STORE_VARIABLE

logger = logging.getLogger(__name__)

_PLATFORM_RECORD = re.compile(r'\{"time": ?"[^"]*", ?"type": ?"platform\.')
"""Start of a record of Lambda's own in a log in JSON.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
"""


_FULL = 0.95
"""Part of the memory from which on a process that was killed needed more than there is."""


@dataclass(frozen=True)
class FunctionInfo:
    """What AWS says of a function."""

    name: str
    qualifier: str | None
    memory_mb: int
    timeout_s: int
    storage_mb: int
    architecture: str
    snapstart: bool
    """Whether AWS keeps a snapshot of it."""
    store_url: str | None
    account: str = ""
    """AWS's number of the account that it is in."""
    log_group: str = ""
    """Where it logs; those of a deployment share one."""

    @classmethod
    def look_up(cls, session: aws.Session, settings: Settings) -> FunctionInfo:
        """Ask AWS for the function's configuration.

        Raises
        ------
        FunctionNotFoundError, AccessError, UnreachableError
            With what to do.
        DeploymentError
            AWS could not make it.
        """
        assert settings.function is not None, "discovery comes first"
        name, qualifier = settings.function, settings.qualifier
        which = {"FunctionName": name, **({"Qualifier": qualifier} if qualifier else {})}
        with aws.translated(f"the function {name!r} cannot be used"):
            found = session.client("lambda").get_function_configuration(**which)
        if found.get("State") == "Failed":
            reason = found.get("StateReason", "AWS gives no reason")
            raise DeploymentError(
                f"the function {name!r} is Failed: {reason}; deploy again with 'dask-root-lambda deploy'"
            )
        variables = found.get("Environment", {}).get("Variables", {})
        return cls(
            name=name,
            qualifier=qualifier,
            memory_mb=int(found["MemorySize"]),
            timeout_s=int(found["Timeout"]),
            storage_mb=int(found.get("EphemeralStorage", {}).get("Size", 512)),
            architecture=str(found.get("Architectures", ["x86_64"])[0]),
            snapstart=found.get("SnapStart", {}).get("OptimizationStatus") == "On",
            store_url=settings.store or variables.get(STORE_VARIABLE),
            account=f"{found.get('FunctionArn', '')}::::".split(":")[4],
            log_group=str(found.get("LoggingConfig", {}).get("LogGroup", "")),
        )

    def quota(self, session: aws.Session) -> int | None:
        """Ask AWS how many invocations at once it allows: of the function, else of the account.

        None where the user may not know. Others of the account may use some of them.
        """
        client = session.client("lambda")
        try:
            with aws.translated("the concurrency is not known"):
                reserved = client.get_function_concurrency(FunctionName=self.name)
                if "ReservedConcurrentExecutions" in reserved:
                    return int(reserved["ReservedConcurrentExecutions"])
                limit = client.get_account_settings().get("AccountLimit", {})
                # A stand-in for AWS may have none.
                return int(limit["UnreservedConcurrentExecutions"]) if limit else None
        except DaskRootLambdaError as error:
            logger.debug("%s", error)
            return None


def function_error(info: FunctionInfo, document: dict[str, Any], log: str) -> DaskRootLambdaError:
    """Make an error of what Lambda says when a function did not answer.

    Lambda ends by SIGKILL what needs too much memory, and so may others: its report tells them apart.
    https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
    """
    kind, message = str(document.get("errorType", "")), str(document.get("errorMessage", ""))
    said = f"{message}\n{_written(log)[-2000:]}".rstrip()
    if kind == "Sandbox.Timedout" or "Task timed out after" in message:
        return FunctionTimeoutError(
            f"the task took longer than the function's {info.timeout_s} s: use more partitions, or raise the "
            f"time limit (900 s at most). {said}"
        )
    report = billing.parse_report(log)
    full = report is not None and report.peak_memory_mb >= _FULL * info.memory_mb
    if kind == "Runtime.OutOfMemory" or ("signal: killed" in message and full):
        peak = f", with a peak of {report.peak_memory_mb:,.0f} MB" if report is not None else ""
        return OutOfMemoryError(
            f"the task needed more than the {info.memory_mb:,} MB of {info.name!r}{peak}: use more "
            "partitions, or deploy a function with more ('dask-root-lambda deploy --tiers 10240', the "
            f"most; emulated: emulated.memory-tiers-mb). {said}"
        )
    if "signal: killed" in message:
        used = f"{report.peak_memory_mb:,.0f} of its" if report is not None else "an unknown part of its"
        return KilledError(
            f"the environment was killed from outside, with {used} {info.memory_mb} MB used. {said}"
        )
    if kind == "Function.ResponseSizeTooLarge":
        return TooLargeError(f"the result is over Lambda's limit: give the function a store. {said}")
    if kind == "Runtime.ExitError":
        return CrashError(
            f"the process ended while it ran the task; user code that crashes does this. {said}"
        )
    if kind.startswith(("Runtime.", "Sandbox.", "Extension.")):
        return InitError(f"the function did not start ({kind}): rebuild and deploy its image. {said}")
    # The handler answers with errors as data: this has escaped it.
    return BrokenEnvironmentError(f"the function failed with {kind}: see its logs. {said}")


def _written(log: str) -> str:
    """Drop what Lambda itself wrote into a log, as text or as JSON; keep what the function did."""
    own = ("START ", "END ", "REPORT ")
    return "\n".join(
        line for line in log.splitlines() if not line.startswith(own) and not _PLATFORM_RECORD.match(line)
    )
