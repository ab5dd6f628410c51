"""How an invocation can end, and what Lambda says about each end.

Source: https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html and
https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-execution.html.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from typing import TypeAlias

# What bash and Go call the signals that end processes; Lambda prints Go's names.
_SIGNAL_NAMES = {
    signal.SIGABRT: "aborted",
    signal.SIGALRM: "alarm clock",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGHUP: "hangup",
    signal.SIGILL: "illegal instruction",
    signal.SIGINT: "interrupt",
    signal.SIGKILL: "killed",
    signal.SIGPIPE: "broken pipe",
    signal.SIGQUIT: "quit",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGTERM: "terminated",
    signal.SIGTRAP: "trace/breakpoint trap",
}


@dataclass(frozen=True)
class Ready:
    """The runtime asked for its next event."""


@dataclass(frozen=True)
class Answered:
    """The runtime posted the handler's result."""

    payload: bytes
    """JSON."""


@dataclass(frozen=True)
class Failed:
    """The runtime posted an error: of the handler, or of initialisation."""

    payload: bytes
    """JSON, passed on as it is."""
    error_type: str
    """From the header ``Lambda-Runtime-Function-Error-Type``; empty for errors of handlers."""


@dataclass(frozen=True)
class Exited:
    """The runtime's process ended by itself."""

    status: int
    """A wait status."""


@dataclass(frozen=True)
class TimedOut:
    """The function's time is over."""


@dataclass(frozen=True)
class OutOfMemory:
    """The environment used more memory than the function has."""


@dataclass(frozen=True)
class TooLarge:
    """The handler's result is over the limit of an answer."""

    limit_bytes: int
    """The limit."""


Ending: TypeAlias = Ready | Answered | Failed | Exited | TimedOut | OutOfMemory | TooLarge


@dataclass(frozen=True)
class Verdict:
    """What Lambda makes of an ending."""

    payload: bytes
    """Body of the answer to Invoke."""
    function_error: str = ""
    """Header ``X-Amz-Function-Error``; empty for success."""
    status: str = ""
    """Of the REPORT line."""
    error_type: str = ""
    """Of the REPORT line."""
    remark: str = ""
    """Line in the log, before END."""
    survives: bool = True
    """Whether the environment can take another event."""


def judge(ending: Ending, request_id: str, timeout_s: float, time: str) -> Verdict:
    """Tell what Lambda answers, and logs, for an ending.

    Parameters
    ----------
    ending
        What happened.
    request_id
        Of the invocation.
    timeout_s
        Of the function.
    time
        Now, ISO 8601 in UTC with milliseconds: time-outs are logged with it.
    """
    if isinstance(ending, Answered):
        return Verdict(ending.payload)
    if isinstance(ending, Failed):
        init_failed = bool(ending.error_type)
        status = "error" if init_failed else ""
        return Verdict(ending.payload, "Unhandled", status, ending.error_type, survives=not init_failed)
    if isinstance(ending, TimedOut):
        return _timed_out(request_id, timeout_s, time)
    if isinstance(ending, TooLarge):
        return _too_large(ending.limit_bytes)
    return _crashed(ending, request_id)


def _timed_out(request_id: str, timeout_s: float, time: str) -> Verdict:
    text = f"Task timed out after {timeout_s:.2f} seconds"
    payload = _document("Sandbox.Timedout", f"RequestId: {request_id} Error: {text}")
    remark = f"{time} {request_id} {text}\n"
    return Verdict(payload, "Unhandled", "timeout", remark=remark, survives=False)


def _too_large(limit_bytes: int) -> Verdict:
    message = f"Response payload size exceeded maximum allowed payload size ({limit_bytes} bytes)."
    return Verdict(_document("Function.ResponseSizeTooLarge", message), "Unhandled")


def _crashed(ending: Ending, request_id: str) -> Verdict:
    out_of_memory = isinstance(ending, OutOfMemory)
    reason = describe_exit(ending.status) if isinstance(ending, Exited) else " with error: signal: killed"
    message = f"RequestId: {request_id} Error: Runtime exited{reason}"
    return Verdict(
        _document("Runtime.ExitError", message),
        "Unhandled",
        "error",
        "Runtime.OutOfMemory" if out_of_memory else "Runtime.ExitError",
        f"{message}\nRuntime.ExitError\n",
        survives=False,
    )


def describe_exit(status: int) -> str:
    """Word a wait status as Lambda does, after "Runtime exited"."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = _SIGNAL_NAMES.get(number, f"signal {number}")  # type: ignore[call-overload]
        return f" with error: signal: {name}"
    code = os.waitstatus_to_exitcode(status)
    return f" with error: exit status {code}" if code else " without providing a reason"


def _document(error_type: str, message: str) -> bytes:
    return json.dumps({"errorType": error_type, "errorMessage": message}, separators=(",", ":")).encode()
