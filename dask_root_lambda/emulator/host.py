"""What the execution environments of an emulator share."""

from __future__ import annotations

from dataclasses import dataclass

from dask_root_lambda.emulator.clock import Clock
from dask_root_lambda.emulator.credentials import RoleSessions
from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.log_lines import JsonLines, Lines, TextLines, Usage
from dask_root_lambda.emulator.logs import LogStore
from dask_root_lambda.emulator.memory import MemoryWatch
from dask_root_lambda.emulator.options import Options
from dask_root_lambda.emulator.outcomes import Verdict
from dask_root_lambda.emulator.processes import Processes

MIB = 1 << 20


@dataclass
class Platform:
    """What environments share."""

    options: Options
    """Of the emulator."""
    processes: Processes
    """Where their processes come from."""
    memory: MemoryWatch
    """Who ends those that use too much."""
    logs: LogStore
    """Where they log."""
    sessions: RoleSessions
    """Credentials of the functions' roles."""
    clock: Clock
    """For waiting between events, and for the time in the log."""
    endpoint: str = ""
    """URL of the emulator."""


@dataclass(frozen=True)
class Outcome:
    """What became of an invocation."""

    verdict: Verdict
    """What the client is told."""
    usage: Usage
    """What it took."""
    log_tail: bytes
    """The last 4 KB of its log."""


def lines_of(version: FunctionVersion, clock: Clock) -> Lines:
    """Choose the format of a version's log."""
    wants_json = version.document["LoggingConfig"]["LogFormat"] == "JSON"
    return JsonLines(clock.now_s) if wants_json else TextLines()
