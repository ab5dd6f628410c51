"""All execution environments: which one takes the next event, and when they end."""

from __future__ import annotations

import errno
import resource
from collections import defaultdict
from collections.abc import Callable

from dask_root_lambda.emulator.clock import Timer
from dask_root_lambda.emulator.concurrency import ScalingRate
from dask_root_lambda.emulator.environment import Environment
from dask_root_lambda.emulator.errors import ServiceError
from dask_root_lambda.emulator.faults import LambdaFault
from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.host import Outcome, Platform
from dask_root_lambda.emulator.restored import RestoredEnvironment
from dask_root_lambda.emulator.runtime_api import Event
from dask_root_lambda.emulator.snapshots import Snapshots

# Idle environments are looked at this often, and more often where their time is shorter.
SWEEP_S = 1.0
# https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html
SCALING_PERIOD_S = 10.0


class Fleet:
    """Starts environments when there is work, keeps them a while, and ends them.

    Parameters
    ----------
    platform
        What environments share.
    snapshots
        What environments of versions with SnapStart are restored from.
    """

    def __init__(self, platform: Platform, snapshots: Snapshots) -> None:
        self._platform = platform
        self._snapshots = snapshots
        self._rate = ScalingRate(platform.options.scaling_rate, SCALING_PERIOD_S, platform.clock.monotonic_s)
        self._idle: defaultdict[str, list[Environment]] = defaultdict(list)
        self._all: set[Environment] = set()
        self._sweeper: Timer | None = None

    async def run(
        self,
        version: FunctionVersion,
        event: Event,
        on_environment: Callable[[Environment], None],
        fault: LambdaFault | None = None,
    ) -> Outcome:
        """Run an event in an environment of a version.

        Parameters
        ----------
        version
            What to run.
        event
            What to run it on.
        on_environment
            Told which environment got the event.
        fault
            What happens to it there.

        Raises
        ------
        ServiceError
            If this process may have no more open files, or somebody ended the environment.
        """
        try:
            return await self._run(version, event, on_environment, fault)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            raise _too_few_files() from error

    async def _run(
        self,
        version: FunctionVersion,
        event: Event,
        on_environment: Callable[[Environment], None],
        fault: LambdaFault | None,
    ) -> Outcome:
        while True:
            environment = self._take(version)
            on_environment(environment)
            try:
                outcome = await environment.run(event, fault)
                killed = environment.killed
            except OSError:
                # It may have started in part.
                environment.usable = False
                raise
            finally:
                self._give_back(environment)
            if outcome is not None:
                return outcome
            if killed:
                raise ServiceError("the environment was ended before it took the event")

    @property
    def total(self) -> int:
        """Environments of all functions, busy ones included."""
        return len(self._all)

    def retire(self, function: str, revision: str | None = None) -> None:
        """End the environments of a function, or of one revision of it; busy ones after their event."""
        for environment in tuple(self._all):
            version = environment.version
            if version.name == function and revision in (None, version.revision):
                if environment in self._idle.get(version.revision, ()):
                    self._end(environment)
                environment.usable = False
        self._snapshots.retire(function, revision)

    def close(self) -> None:
        """End every environment."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for environment in tuple(self._all):
            self._end(environment)

    def _take(self, version: FunctionVersion) -> Environment:
        idle = self._idle.get(version.revision)
        if idle:
            # Last in, first out: what is not needed gets old and ends.
            return idle.pop()
        self._rate.start(version.name)
        snapshot = self._snapshots.get(version)
        if snapshot is None:
            environment = Environment(version, self._platform, self._end)
        else:
            environment = RestoredEnvironment(version, self._platform, self._end, snapshot)
        self._all.add(environment)
        return environment

    def _give_back(self, environment: Environment) -> None:
        if not environment.usable:
            self._end(environment)
            return
        environment.idle_since_s = self._platform.clock.monotonic_s()
        self._idle[environment.version.revision].append(environment)
        if self._sweeper is None:
            self._schedule_sweep()

    def _end(self, environment: Environment) -> None:
        self._all.discard(environment)
        idle = self._idle.get(environment.version.revision, [])
        if environment in idle:
            idle.remove(environment)
        if not idle:
            self._idle.pop(environment.version.revision, None)
        environment.end()

    def _schedule_sweep(self) -> None:
        delay_s = min(SWEEP_S, self._platform.options.idle_timeout_s / 2)
        self._sweeper = self._platform.clock.call_later(delay_s, self._sweep)

    def _sweep(self) -> None:
        """End environments that were idle for too long."""
        self._sweeper = None
        oldest_s = self._platform.clock.monotonic_s() - self._platform.options.idle_timeout_s
        for environments in tuple(self._idle.values()):
            for environment in tuple(environments):
                if environment.idle_since_s <= oldest_s:
                    self._end(environment)
        if self._idle:
            self._schedule_sweep()


def _too_few_files() -> ServiceError:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return ServiceError(
        f"this machine or the emulator's process (limit {allowed}) has too many open files: each "
        "environment takes a few. Raise the limit (ulimit -Hn), or run fewer at a time."
    )
