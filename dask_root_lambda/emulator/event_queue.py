"""Event invocations: accepted at once, run later, tried again, and reported to destinations.

Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html and
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from dask_root_lambda.emulator.clock import Clock
from dask_root_lambda.emulator.concurrency import Concurrency
from dask_root_lambda.emulator.destinations import Destinations
from dask_root_lambda.emulator.errors import AccessDeniedError, ApiError, ResourceNotFoundError
from dask_root_lambda.emulator.faults import FaultTable, LambdaFault
from dask_root_lambda.emulator.functions import LATEST, FunctionVersion
from dask_root_lambda.emulator.host import Outcome
from dask_root_lambda.emulator.registry import Reference, Registry
from dask_root_lambda.emulator.runner import Runner
from dask_root_lambda.emulator.runtime_api import Event

logger = logging.getLogger(__name__)

DEFAULT_RETRIES = 2
DEFAULT_AGE_S = 21_600
# After a function error: one minute before the second attempt, two before the third.
ERROR_WAIT_S = 60.0
# After a throttle or a fault of Lambda's own: 1 s, doubled each time, 5 minutes at most.
THROTTLE_WAIT_S = 1.0
THROTTLE_WAIT_LIMIT_S = 300.0


@dataclass
class QueuedEvent:
    """An event on its way."""

    reference: Reference
    """Function, as the client named it."""
    event: Event
    """What to run it on."""
    accepted_s: float
    """When it was accepted."""
    fates: list[LambdaFault | None] = field(default_factory=list)
    """What happens to its next attempts, as far as that is decided."""
    attempts: int = 0
    """How often the function has run on it."""
    throttles: int = 0
    """How often it could not run."""
    last: Outcome | None = None
    """What the last run gave."""


class EventQueue:
    """Runs events in the background.

    Parameters
    ----------
    registry
        The functions, with their event settings.
    runner
        Runs them.
    concurrency
        Tells whether a function is stopped.
    destinations
        Where results are reported.
    clock
        For waiting and for ages.
    faults
        What happens to events.
    """

    def __init__(
        self,
        registry: Registry,
        runner: Runner,
        concurrency: Concurrency,
        destinations: Destinations,
        clock: Clock,
        faults: FaultTable,
    ) -> None:
        self._faults = faults
        self._registry = registry
        self._runner = runner
        self._concurrency = concurrency
        self._destinations = destinations
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether an event is being run or reported; those that wait do not count."""
        return bool(self._tasks)

    def submit(self, reference: Reference, event: Event, fates: Iterable[LambdaFault | None] = ()) -> None:
        """Accept an event, and what was decided to happen to its first attempts."""
        self._spawn(self._attempt(QueuedEvent(reference, event, self._clock.now_s(), list(fates))))

    def close(self) -> None:
        """Forget all events."""
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("an event was lost inside the emulator", exc_info=task.exception())
        self._clock.work_ended()

    async def _attempt(self, queued: QueuedEvent) -> None:
        try:
            version = self._registry.resolve(queued.reference)
            fault = self._decide(queued, version)
            queued.last = await self._runner.run(version, queued.event, fault=fault)
        except (AccessDeniedError, ResourceNotFoundError):
            logger.warning("event %s is dropped: its function is gone", queued.event.request_id)
            return
        except ApiError:
            await self._postpone(queued, version)
            return
        queued.attempts += 1
        if not queued.last.verdict.function_error:
            await self._report(queued, version, "OnSuccess", "Success")
        elif queued.attempts > self._setting(queued, "MaximumRetryAttempts", DEFAULT_RETRIES):
            await self._report(queued, version, "OnFailure", "RetriesExhausted")
        else:
            await self._retry(queued, version, ERROR_WAIT_S * queued.attempts)

    def _decide(self, queued: QueuedEvent, version: FunctionVersion) -> LambdaFault | None:
        """Tell what happens to an attempt; to the first one, what its request has brought along."""
        if queued.fates:
            return queued.fates.pop(0)
        return self._faults.of_invocation(version.name, queued.event.payload)

    async def _postpone(self, queued: QueuedEvent, version: FunctionVersion) -> None:
        """Try again when there is room; at once to the destination if there never will be."""
        if self._concurrency.reserved.get(version.name) == 0:
            await self._report(queued, version, "OnFailure", "ZeroReservedConcurrency")
            return
        wait_s = min(THROTTLE_WAIT_S * 2**queued.throttles, THROTTLE_WAIT_LIMIT_S)
        queued.throttles += 1
        await self._retry(queued, version, wait_s)

    async def _retry(self, queued: QueuedEvent, version: FunctionVersion, wait_s: float) -> None:
        age_s = self._clock.now_s() - queued.accepted_s + wait_s
        if age_s > self._setting(queued, "MaximumEventAgeInSeconds", DEFAULT_AGE_S):
            await self._report(queued, version, "OnFailure", "EventAgeExceeded")
            return
        self._clock.call_later(wait_s, lambda: self._spawn(self._attempt(queued)), skips=True)

    def _setting(self, queued: QueuedEvent, name: str, default: int) -> int:
        return int(self._settings(queued).get(name, default))

    def _settings(self, queued: QueuedEvent) -> dict[str, Any]:
        function = self._registry.functions.get(queued.reference.name)
        if function is None:
            return {}
        return function.event_settings.get(queued.reference.qualifier or LATEST, {})

    async def _report(self, queued: QueuedEvent, version: FunctionVersion, kind: str, condition: str) -> None:
        destination = self._settings(queued).get("DestinationConfig", {}).get(kind, {}).get("Destination")
        if destination:
            qualified = Reference(queued.reference.name, queued.reference.qualifier or LATEST)
            record = describe_result(queued, self._registry.arn(qualified), version, condition, self._now())
            await self._destinations.send(destination, record, version)
        dead_letters = version.document.get("DeadLetterConfig", {}).get("TargetArn")
        if dead_letters and condition != "Success":
            await self._destinations.send_dead_letter(dead_letters, queued.event, _error_of(queued), version)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_s(), timezone.utc)


def describe_result(
    queued: QueuedEvent, arn: str, version: FunctionVersion, condition: str, now: datetime
) -> dict[str, Any]:
    """Make the record that destinations get."""
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "requestContext": {
            "requestId": queued.event.request_id,
            "functionArn": arn,
            "condition": condition,
            "approximateInvokeCount": queued.attempts,
        },
        "requestPayload": json.loads(queued.event.payload),
    }
    if queued.last is None:
        return record
    context: dict[str, Any] = {"statusCode": 200, "executedVersion": version.version}
    if queued.last.verdict.function_error:
        context["functionError"] = queued.last.verdict.function_error
    return {
        **record,
        "responseContext": context,
        "responsePayload": _json_or_text(queued.last.verdict.payload),
    }


def _error_of(queued: QueuedEvent) -> str:
    document = _json_or_text(queued.last.verdict.payload) if queued.last else None
    if isinstance(document, dict):
        return str(document.get("errorMessage", ""))
    return "Function not invoked. Function is configured with zero reserved concurrent executions"


def _json_or_text(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")
