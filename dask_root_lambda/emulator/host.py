"""What the execution environments of an emulator share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dask_root_lambda.emulator.bundles import bundle
from dask_root_lambda.emulator.clock import Clock
from dask_root_lambda.emulator.credentials import RoleSessions
from dask_root_lambda.emulator.endpoint import HttpServer
from dask_root_lambda.emulator.forwarding import read_address
from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.images import ContainerImage, find_runtime
from dask_root_lambda.emulator.log_lines import JsonLines, Lines, TextLines, Usage
from dask_root_lambda.emulator.logs import LogStore
from dask_root_lambda.emulator.memory import MemoryWatch
from dask_root_lambda.emulator.mounts import TMP
from dask_root_lambda.emulator.networks import ContainerNetwork
from dask_root_lambda.emulator.options import Options
from dask_root_lambda.emulator.outcomes import Verdict
from dask_root_lambda.emulator.processes import Processes, ProcessSpec
from dask_root_lambda.emulator.variables import (
    Surroundings,
    container_variables,
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
    server: HttpServer | None = None
    """What serves it."""

    def specify(
        self,
        version: FunctionVersion,
        identity: str,
        runtime_api: str,
        log_stream: str,
        initialization_type: str,
        network: str = "",
    ) -> ProcessSpec:
        """Say how a version's runtime is run: under which name, with which Runtime API, log and network."""
        image = self.options.image(version.package.image_uri)
        if version.package.container is not None:
            return self._contain(
                version, version.package.container, identity, runtime_api, log_stream, network
            )
        code = version.package.directory
        # Environments that are forked from a snapshot are in its /tmp, and cannot get another.
        private = self.options.private_tmp and initialization_type == "on-demand"
        surroundings = Surroundings(
            runtime_api=runtime_api,
            endpoint=self.endpoint,
            log_stream=log_stream,
            task=Path(code) if code else self.processes.root / identity / "task",
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
            directory=code,
        )

    async def open_network(self, version: FunctionVersion) -> ContainerNetwork | None:
        """Make the network of an environment that is a container; others have the machine's."""
        if version.package.container is None or self.server is None:
            return None
        reachable = [read_address(text) for text in self.options.reachable]
        return await ContainerNetwork.open(self.server, reachable)

    def _contain(
        self,
        version: FunctionVersion,
        container: ContainerImage,
        identity: str,
        runtime_api: str,
        log_stream: str,
        network: str,
    ) -> ProcessSpec:
        """Say how a version's runtime is run in a container."""
        image = self.options.image(version.package.image_uri)
        surroundings = Surroundings(
            runtime_api=runtime_api,
            endpoint=self.endpoint,
            log_stream=log_stream,
            task=Path(container.working_directory),
            tmp=Path(TMP),
            initialization_type="on-demand",
            credentials=self.sessions.of(version),
        )
        variables = container_variables(version, container, image, self.options, surroundings)
        trusted = [str(self.options.certificate.resolve().parent)] if self.options.certificate else []
        config = bundle(version, container, variables, network, (*image.read_only, *trusted))
        told = {"runtime": find_runtime(), "layers": container.layers, "config": config}
        return ProcessSpec(identity, (), variables, version.ephemeral_storage_mb, container=told)


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
    return JsonLines(clock.now_s, version.log_level) if wants_json else TextLines()
