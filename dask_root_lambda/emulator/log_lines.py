"""The lines that Lambda itself writes into a function's log, and the arithmetic of what it bills.

Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html (INIT_REPORT,
RESTORE_REPORT and the status of REPORT), https://docs.aws.amazon.com/lambda/latest/dg/snapstart-monitoring.html,
https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html (JSON) and
https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

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
    restore_ms: float | None = None
    """Of the restore from a snapshot that came before it, if there was one."""
    billed_restore_ms: float = 0.0
    """The part of the restore that the function's own code took."""
    status: str = ""
    """Empty for success, "timeout" or "error"."""
    error_type: str = ""
    """Of a runtime that crashed."""

    @property
    def billed_ms(self) -> int:
        """Duration and initialisation, rounded up to the next millisecond.

        Initialisation is billed for all functions since August 2025.
        """
        return _round_up(self.duration_ms + (self.init_ms or 0.0) + self.billed_restore_ms)


class Lines(Protocol):
    """Lambda's own lines, in one of its two formats."""

    def start(self, request_id: str, version: str) -> str:
        """Begin an invocation."""

    def end(self, request_id: str) -> str:
        """End an invocation."""

    def report(self, request_id: str, usage: Usage) -> str:
        """Tell what an invocation took."""

    def remark(self, text: str) -> str:
        """Tell how an invocation failed, where the format has a line for it."""

    def init_report(self, duration_ms: float, phase: str, status: str = "", error_type: str = "") -> str:
        """Tell how an initialisation failed, or what the one before a snapshot took."""

    def restore_report(self, duration_ms: float, status: str = "", error_type: str = "") -> str:
        """Tell what a restore took, or how it failed."""


class TextLines:
    """The format that functions have unless they ask for JSON."""

    def start(self, request_id: str, version: str) -> str:
        """Begin an invocation."""
        return f"START RequestId: {request_id} Version: {version}\n"

    def end(self, request_id: str) -> str:
        """End an invocation."""
        return f"END RequestId: {request_id}\n"

    def report(self, request_id: str, usage: Usage) -> str:
        """Tell what an invocation took."""
        fields = [
            f"REPORT RequestId: {request_id}",
            f"Duration: {usage.duration_ms:.2f} ms",
            f"Billed Duration: {usage.billed_ms} ms",
            f"Memory Size: {usage.memory_mb} MB",
            f"Max Memory Used: {usage.peak_memory_mb} MB",
        ]
        if usage.init_ms is not None:
            fields.append(f"Init Duration: {usage.init_ms:.2f} ms")
        if usage.restore_ms is not None:
            fields.append(f"Restore Duration: {usage.restore_ms:.2f} ms")
            fields.append(f"Billed Restore Duration: {_round_up(usage.billed_restore_ms)} ms")
        return "\t".join((*fields, *_status(usage.status, usage.error_type))) + "\t\n"

    def remark(self, text: str) -> str:
        """Tell how an invocation failed."""
        return text

    def init_report(self, duration_ms: float, phase: str, status: str = "", error_type: str = "") -> str:
        """Tell how an initialisation failed, or what the one before a snapshot took."""
        fields = (f"INIT_REPORT Init Duration: {duration_ms:.2f} ms", f"Phase: {phase}")
        return "\t".join((*fields, *_status(status, error_type))) + "\n"

    def restore_report(self, duration_ms: float, status: str = "", error_type: str = "") -> str:
        """Tell what a restore took, or how it failed."""
        field = f"RESTORE_REPORT Restore Duration: {duration_ms:.2f} ms"
        return "\t".join((field, *_status(status, error_type))) + "\n"


class JsonLines:
    """The format of functions whose LoggingConfig has LogFormat JSON.

    Parameters
    ----------
    now_s
        The clock.
    level
        DEBUG, INFO or WARN; WARN leaves out what went well.
    """

    def __init__(self, now_s: Callable[[], float], level: str = "INFO") -> None:
        self._now_s = now_s
        self._wants_all = level != "WARN"

    def start(self, request_id: str, version: str) -> str:
        """Begin an invocation."""
        return self._line("platform.start", {"requestId": request_id, "version": version})

    def end(self, request_id: str) -> str:
        """End an invocation: without a line of its own."""
        return ""

    def report(self, request_id: str, usage: Usage) -> str:
        """Tell what an invocation took."""
        metrics: dict[str, float] = {
            "durationMs": round(usage.duration_ms, 3),
            "billedDurationMs": usage.billed_ms,
            "memorySizeMB": usage.memory_mb,
            "maxMemoryUsedMB": usage.peak_memory_mb,
        }
        if usage.init_ms is not None:
            metrics["initDurationMs"] = round(usage.init_ms, 3)
        if usage.restore_ms is not None:
            metrics["restoreDurationMs"] = round(usage.restore_ms, 3)
            metrics["billedRestoreDurationMs"] = _round_up(usage.billed_restore_ms)
        record = {"requestId": request_id, "metrics": metrics, **_json_status(usage.status, usage.error_type)}
        return self._line("platform.report", record)

    def remark(self, text: str) -> str:
        """Tell how an invocation failed: without a line of its own."""
        return ""

    def init_report(self, duration_ms: float, phase: str, status: str = "", error_type: str = "") -> str:
        """Tell how an initialisation failed, or what the one before a snapshot took."""
        record = {"phase": phase, "metrics": {"durationMs": round(duration_ms, 3)}}
        return self._line("platform.initReport", {**record, **_json_status(status, error_type)})

    def restore_report(self, duration_ms: float, status: str = "", error_type: str = "") -> str:
        """Tell what a restore took, or how it failed."""
        record = {"metrics": {"durationMs": round(duration_ms, 3)}, **_json_status(status, error_type)}
        return self._line("platform.restoreReport", record)

    def _line(self, kind: str, record: dict[str, Any]) -> str:
        # https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html: the level of
        # a record is INFO, or WARN if its status is not success.
        if not self._wants_all and record.get("status", "success") == "success":
            return ""
        return json.dumps({"time": iso_time(self._now_s()), "type": kind, "record": record}) + "\n"


def iso_time(now_s: float) -> str:
    """Write a time since the epoch as AWS does: in UTC, with milliseconds."""
    now = datetime.fromtimestamp(now_s, timezone.utc)
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _round_up(duration_ms: float) -> int:
    # First take off what binary fractions add: 3000.0000000001 is not 3001.
    return math.ceil(round(duration_ms, 3))


def _status(status: str, error_type: str) -> list[str]:
    fields = [f"Status: {status}"] if status else []
    return [*fields, f"Error Type: {error_type}"] if error_type else fields


def _json_status(status: str, error_type: str) -> dict[str, str]:
    document = {"status": status or "success"}
    return {**document, "errorType": error_type} if error_type else document
