"""The operation Invoke: check the request, find the version, run it, word the answer.

Source: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import parse_qs

from dask_root_lambda.emulator.endpoint import Exchange, Request, Response
from dask_root_lambda.emulator.environment import Environment
from dask_root_lambda.emulator.errors import (
    ApiError,
    InvalidContentError,
    InvalidParameterError,
    RequestTooLargeError,
)
from dask_root_lambda.emulator.event_queue import EventQueue
from dask_root_lambda.emulator.faults import REQUEST_KINDS, FaultTable, LambdaFault
from dask_root_lambda.emulator.functions import FunctionVersion
from dask_root_lambda.emulator.host import Outcome
from dask_root_lambda.emulator.registry import Reference, Registry, parse_name
from dask_root_lambda.emulator.runner import Runner, suffer
from dask_root_lambda.emulator.runtime_api import Event

logger = logging.getLogger(__name__)

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 6 MB, which requests have to be
# smaller than, as AWS's own error says, and 1 MB for events.
REQUEST_LIMIT_BYTES = 6_291_456
EVENT_LIMIT_BYTES = 1 << 20

_TYPES = ("RequestResponse", "Event", "DryRun")


@dataclass(frozen=True)
class Invocation:
    """A checked request to run a function."""

    version: FunctionVersion
    """What to run."""
    reference: Reference
    """As the client named it."""
    event: Event
    """What to run it on."""
    kind: str
    """RequestResponse, Event or DryRun."""
    wants_log: bool
    """Whether the answer carries the end of the log."""


class Invoker:
    """Runs functions for clients.

    Parameters
    ----------
    registry
        The functions.
    runner
        Runs them.
    events
        Runs those that nobody waits for.
    faults
        What happens to invocations.
    stop_on_disconnect
        Whether to end what runs for a client that went away.
    """

    def __init__(
        self,
        registry: Registry,
        runner: Runner,
        events: EventQueue,
        faults: FaultTable,
        stop_on_disconnect: bool,
    ) -> None:
        self._faults = faults
        self._registry = registry
        self._runner = runner
        self._events = events
        self._stop_on_disconnect = stop_on_disconnect
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, exchange: Exchange, function: str) -> None:
        """Answer an Invoke request, now or when the function has run."""
        invocation = self._read(exchange.request, function)
        task = asyncio.get_running_loop().create_task(self._serve(exchange, invocation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def submit(self, arn: str, payload: bytes) -> None:
        """Accept an event from Lambda itself, for a function that is a destination."""
        reference = parse_name(arn)
        self._events.submit(reference, _new_event(payload, self._registry.arn(reference)))

    def close(self) -> None:
        """Stop waiting for functions."""
        for task in self._tasks:
            task.cancel()

    async def _serve(self, exchange: Exchange, invocation: Invocation) -> None:
        event, request_id = invocation.event, invocation.event.request_id
        try:
            fault = self._faults.of_invocation(invocation.version.name, event.payload)
            if fault is not None and fault.kind == "reset":
                exchange.abort()
                return
            _deliver(exchange, await self._work(exchange, invocation, fault), fault)
        except ApiError as error:
            exchange.respond(error.response(request_id))
        except Exception:
            # A client must get an answer, whatever is wrong here.
            logger.exception("invocation %s failed inside the emulator", request_id)
            exchange.respond(ApiError("the emulator failed; see its log").response(request_id))

    async def _work(self, exchange: Exchange, invocation: Invocation, fault: LambdaFault | None) -> Response:
        """Run an event, or accept it, or neither; return the answer."""
        event = invocation.event
        if invocation.kind == "RequestResponse":
            outcome = await self._runner.run(invocation.version, event, self._guard(exchange), fault)
            return _answer(invocation, outcome)
        if fault is not None:
            await suffer(fault)
        headers = (("x-amzn-RequestId", event.request_id),)
        if invocation.kind == "DryRun":
            return Response(204, headers)
        of_attempt = None if fault is None or fault.kind in REQUEST_KINDS else fault
        self._events.submit(invocation.reference, event, [of_attempt])
        return Response(202, headers)

    def _guard(self, exchange: Exchange) -> Callable[[Environment], None]:
        """End the environment with its client, if that is what the user wants."""

        def follow(environment: Environment) -> None:
            if self._stop_on_disconnect and exchange.open:
                exchange.on_disconnect = environment.kill

        return follow

    def _read(self, request: Request, function: str) -> Invocation:
        qualifier = parse_qs(request.query).get("Qualifier", [None])[0] if request.query else None
        reference = parse_name(function, qualifier)
        version = self._registry.resolve(reference)
        kind = request.headers.get("x-amz-invocation-type", "RequestResponse")
        if kind not in _TYPES:
            raise InvalidParameterError(f"InvocationType is {kind!r}; it must be one of {', '.join(_TYPES)}")
        event = _new_event(
            _check_payload(request.body, kind),
            self._registry.arn(reference),
            request.headers.get("x-amzn-trace-id", ""),
            _client_context(request.headers.get("x-amz-client-context", "")),
        )
        return Invocation(version, reference, event, kind, request.headers.get("x-amz-log-type") == "Tail")


def _new_event(payload: bytes, arn: str, trace_id: str = "", client_context: str = "") -> Event:
    return Event(str(uuid.uuid4()), payload, arn, trace_id or _new_trace_id(), client_context)


def _check_payload(payload: bytes, kind: str) -> bytes:
    if len(payload) >= REQUEST_LIMIT_BYTES:
        raise RequestTooLargeError(
            f"Request must be smaller than {REQUEST_LIMIT_BYTES} bytes for the InvokeFunction operation"
        )
    if kind == "Event" and len(payload) > EVENT_LIMIT_BYTES:
        raise RequestTooLargeError(
            f"{len(payload)} byte payload is too large for the Event invocation type "
            f"(limit {EVENT_LIMIT_BYTES} bytes)"
        )
    if not payload:
        return b"{}"
    try:
        json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidContentError(f"Could not parse request body into json: {error}") from None
    return payload


def _client_context(encoded: str) -> str:
    if not encoded:
        return ""
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidContentError("Could not parse the client context: not base64 of UTF-8 text") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _new_trace_id() -> str:
    return f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)};Parent={secrets.token_hex(8)};Sampled=0"


def _deliver(exchange: Exchange, response: Response, fault: LambdaFault | None) -> None:
    """Send an answer, or what is left of it."""
    kind = "" if fault is None else fault.kind
    if kind == "lost-answer":
        exchange.abort()
    elif kind == "truncate":
        exchange.truncate(response)
    elif kind == "corrupt":
        exchange.respond(replace(response, body=_corrupt(response.body)))
    else:
        exchange.respond(response)


def _corrupt(body: bytes) -> bytes:
    """Change the byte in the middle, so that a letter stays a letter and only a checksum tells."""
    damaged = bytearray(body)
    if damaged:
        damaged[len(damaged) // 2] ^= 1
    return bytes(damaged)


def _answer(invocation: Invocation, outcome: Outcome) -> Response:
    headers = [
        ("Content-Type", "application/json"),
        ("x-amzn-RequestId", invocation.event.request_id),
        ("X-Amz-Executed-Version", invocation.version.version),
        ("X-Amzn-Trace-Id", invocation.event.trace_id),
    ]
    if outcome.verdict.function_error:
        headers.append(("X-Amz-Function-Error", outcome.verdict.function_error))
    if invocation.wants_log:
        headers.append(("X-Amz-Log-Result", base64.b64encode(outcome.log_tail).decode()))
    return Response(200, tuple(headers), outcome.verdict.payload)
