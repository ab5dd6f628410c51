"""One attempt to run an event: within the limits, in an environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dask_root_lambda.emulator.clock import Clock
from dask_root_lambda.emulator.concurrency import Concurrency
from dask_root_lambda.emulator.environment import Environment
from dask_root_lambda.emulator.errors import (
    ResourceConflictError,
    ServiceError,
    ServiceUnavailableError,
    SnapStartNotReadyError,
    TooManyRequestsError,
)
from dask_root_lambda.emulator.faults import LambdaFault
from dask_root_lambda.emulator.fleet import Fleet
from dask_root_lambda.emulator.functions import LATEST, FunctionVersion
from dask_root_lambda.emulator.host import Outcome
from dask_root_lambda.emulator.runtime_api import Event


class Runner:
    """Runs events, synchronous or not.

    Parameters
    ----------
    fleet
        The environments.
    concurrency
        The limits.
    clock
        Told when an event ends.
    """

    def __init__(self, fleet: Fleet, concurrency: Concurrency, clock: Clock) -> None:
        self._fleet = fleet
        self._concurrency = concurrency
        self._clock = clock

    async def run(
        self,
        version: FunctionVersion,
        event: Event,
        on_environment: Callable[[Environment], None] = lambda _: None,
        fault: LambdaFault | None = None,
    ) -> Outcome:
        """Run an event, in an environment that ``on_environment`` is told of.

        Raises
        ------
        TooManyRequestsError
            If a limit is reached.
        SnapStartNotReadyError
            If the version has no snapshot yet.
        ResourceConflictError
            If it never will: its initialisation failed.
        """
        if fault is not None:
            await suffer(fault)
        if version.state != "Active":
            _refuse(version)
        self._concurrency.enter(version.name)
        try:
            outcome = await self._fleet.run(version, event, on_environment, fault)
            if fault is not None and fault.kind == "duplicate":
                await self._fleet.run(version, event, on_environment)
            return outcome
        finally:
            self._concurrency.leave(version.name)
            self._clock.work_ended()


async def suffer(fault: LambdaFault) -> None:
    """Let happen what comes before an event runs."""
    if fault.kind == "throttle":
        raise TooManyRequestsError("ConcurrentInvocationLimitExceeded")
    if fault.kind == "error-500":
        raise ServiceError("An error occurred and the request cannot be processed.")
    if fault.kind == "error-503":
        raise ServiceUnavailableError("Service is temporarily unavailable.")
    if fault.kind == "delay":
        await asyncio.sleep(fault.delay_s)


def _refuse(version: FunctionVersion) -> None:
    if version.state == "Pending" and version.version != LATEST:
        raise SnapStartNotReadyError(
            "Lambda is initializing your function. It will be ready to invoke once your function state "
            "becomes ACTIVE."
        )
    raise ResourceConflictError(
        "The operation cannot be performed at this time. The function is currently in the following state: "
        f"{version.state}. {version.document.get('StateReason', '')}"
    )
