"""What the execution environments of an emulator share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dask_root_lambda.emulator.clock import Clock
from dask_root_lambda.emulator.credentials import RoleSessions
from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.log_lines import JsonLines, Lines, TextLines, Usage
from dask_root_lambda.emulator.logs import LogStore
from dask_root_lambda.emulator.memory import MemoryWatch
from dask_root_lambda.emulator.mounts import TMP
from dask_root_lambda.emulator.options import Options
from dask_root_lambda.emulator.outcomes import Verdict
from dask_root_lambda.emulator.processes import Processes, ProcessSpec
from dask_root_lambda.emulator.variables import (
    Surroundings,
    environment_variables,
    visible_directories,
)

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

    def specify(
        self,
        version: FunctionVersion,
        identity: str,
        runtime_api: str,
        log_stream: str,
        initialization_type: str,
    ) -> ProcessSpec:
        """Say how a version's runtime is run: under which name, with which Runtime API and log."""
        image = self.options.image(version.package.image_uri)
        # Environments that are forked from a snapshot are in its /tmp, and cannot get another.
        private = self.options.private_tmp and initialization_type == "on-demand"
        surroundings = Surroundings(
            runtime_api=runtime_api,
            endpoint=self.endpoint,
            log_stream=log_stream,
            task=self.processes.root / identity / "task",
            tmp=Path(TMP) if private else self.processes.root / identity / "tmp",
            initialization_type=initialization_type,
            credentials=self.sessions.of(version),
        )
        variables = environment_variables(version, image, self.options, surroundings)
        return ProcessSpec(
            identity,
            (image.python, "-m", "awslambdaric", variables["_HANDLER"]),
            variables,
            version.ephemeral_storage_mb,
            visible_directories(version, image, self.options) if private else None,
        )


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
