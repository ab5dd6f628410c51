"""The lines that Lambda itself writes into a function's log, and the arithmetic of what it bills.

Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html (forms of REPORT and
INIT_REPORT), https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Invoke returns this much of the log's end.
TAIL_BYTES = 4096


@dataclass(frozen=True)
class Usage:
    """What one invocation took."""

    duration_ms: float
    """From the event's delivery to the answer."""
    memory_mb: int
    """What the function has."""
    peak_memory_mb: int
    """What its environment used at most, since it started."""
    init_ms: float | None = None
    """Of the initialisation that came before it, if there was one outside of its own time."""
    status: str = ""
    """Empty for success, "timeout" or "error"."""
    error_type: str = ""
    """Of a runtime that crashed."""

    @property
    def billed_ms(self) -> int:
        """Duration and initialisation, rounded up to the next millisecond.

        Initialisation is billed for all functions since August 2025.
        """
        # The rounding first takes off what binary fractions add: 3000.0000000001 is not 3001.
        return math.ceil(round(self.duration_ms + (self.init_ms or 0.0), 3))


def start(request_id: str, version: str) -> str:
    """START line."""
    return f"START RequestId: {request_id} Version: {version}\n"


def end(request_id: str) -> str:
    """END line."""
    return f"END RequestId: {request_id}\n"


def report(request_id: str, usage: Usage) -> str:
    """REPORT line."""
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {usage.duration_ms:.2f} ms",
        f"Billed Duration: {usage.billed_ms} ms",
        f"Memory Size: {usage.memory_mb} MB",
        f"Max Memory Used: {usage.peak_memory_mb} MB",
    ]
    if usage.init_ms is not None:
        fields.append(f"Init Duration: {usage.init_ms:.2f} ms")
    return "\t".join(fields) + "\t" + _status(usage.status, usage.error_type) + "\n"


def init_report(duration_ms: float, phase: str, status: str, error_type: str) -> str:
    """INIT_REPORT line, which Lambda writes only if initialisation failed (or for SnapStart)."""
    outcome = _status(status, error_type)
    return f"INIT_REPORT Init Duration: {duration_ms:.2f} ms\tPhase: {phase}\t{outcome}\n"


def _status(status: str, error_type: str) -> str:
    fields = [f"Status: {status}"] if status else []
    if error_type:
        fields.append(f"Error Type: {error_type}")
    return "\t".join(fields)
