"""One invocation: a request goes to a function, in AWS or in this process, and an answer comes back."""

from __future__ import annotations

import base64
import json
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from dask_root_lambda.config import Execution, Settings
from dask_root_lambda.cost import billing
from dask_root_lambda.cost.billing import Billing
from dask_root_lambda.cost.prices import NO_PRICES, Prices, prices_of
from dask_root_lambda.invocation import aws, discovery
from dask_root_lambda.invocation.cancellation import Cancellation
from dask_root_lambda.invocation.connection import abortable
from dask_root_lambda.invocation.function import FunctionInfo, function_error
from dask_root_lambda.invocation.invoking import Answer
from dask_root_lambda.invocation.journal import Journal, Spent
from dask_root_lambda.invocation.tiers import Larger, Tiers
from dask_root_lambda.protocol import seal, wire
from dask_root_lambda.protocol import store as stores
from dask_root_lambda.protocol.errors import (
    ConfigurationError,
    CorruptBlobError,
    DaskRootLambdaError,
    RunCancelledError,
)
from dask_root_lambda.protocol.store import STORE_VARIABLE, MemoryStore, S3Store, Store
from dask_root_lambda.protocol.task import Body, Reply, Request

logger = logging.getLogger(__name__)

_OWN_STORE = MemoryStore()
stores.register(_OWN_STORE)

_ANSWER_MARGIN_S = 30.0
"""How much longer than the function's time limit an answer is waited for."""


@dataclass(frozen=True)
class Invocation:
    """How an invocation went: answered, or failed with an error; billed either way."""

    reply: Reply | None
    error: DaskRootLambdaError | None
    billing: Billing
    usd: float
    """Cost at list price."""
    bytes_up: int
    """Length of the request, as sent, and of what was put into the store for it."""
    bytes_down: int
    """Length of the answer, as received, and of the result that it put into the store."""
    request_id: str | None = None
    in_flight_s: float = 0.0
    """Seconds from the request to its answer."""


class Invoker(Protocol):
    """Where requests go. Implementations may be called from many threads at once."""

    execution: Execution
    remote: bool
    """Whether the function runs on another machine, without this one's files."""
    store: Store
    """Where bodies go that are too large to be inline."""
    prices: Prices
    region: str
    """AWS's name of the function's region; empty for this process."""
    standing_usd_per_s: float
    """What the function costs while it is kept: SnapStart's snapshot."""
    quota: int | None
    """Invocations at once that the account allows; None where nobody says."""
    tiers: Sequence[int]
    """Memory of the functions that it can invoke, ascending, MB of 2^20 bytes; requests say which. At least
    one."""
    timeout_s: float | None
    """Time limit of an invocation; None for none."""

    def invoke(self, request: Request, cancellation: Cancellation) -> Invocation:
        """Send a request and wait for its answer, at most for a bounded time.

        Raises
        ------
        InvocationError, RunCancelledError, TooLargeError
            The function was not run, did not answer, or the wait was cancelled.
        """

    def close(self) -> None:
        """Give back what the invoker holds."""


class LocalInvoker:
    """Runs the function's handler in this process, in the calling thread."""

    execution: Execution = "local"
    remote = False
    prices = NO_PRICES
    region = ""
    standing_usd_per_s = 0.0
    quota: int | None = None
    tiers: Sequence[int] = (0,)
    timeout_s: float | None = None

    def __init__(self) -> None:
        from lambda_runtime import handler

        self.store: Store = _OWN_STORE
        self._answer = handler.answer
        self._environment = handler.Environment(_OWN_STORE)

    def invoke(self, request: Request, cancellation: Cancellation) -> Invocation:
        """See `Invoker.invoke`. A cancellation ends the event loop of a range at its next entry."""
        if cancellation.cancelled:
            raise RunCancelledError("the run was stopped", task=request.task)
        event = replace(request, result_key=f"results/{uuid.uuid4().hex}").to_json()
        began_s = time.monotonic()
        reply = self._answer(self._environment, event, cancellation.on_cancel)
        # Nobody else can open this store, and the answer goes no further than this process.
        reply = replace(reply, body=reply.body and self._taken_out(reply.body, request.seal_key))
        if cancellation.cancelled:
            raise RunCancelledError("the run was stopped", task=request.task)
        seconds = time.monotonic() - began_s
        bill = Billing(duration_s=seconds, peak_memory_mb=reply.usage.peak_memory_mb)
        size = reply.body.size if reply.body is not None else 0
        sent = sum(body.size for body in request.bodies)
        error = _failure(reply, request, None)
        return Invocation(reply, error, bill, 0.0, sent, size, uuid.uuid4().hex, seconds)

    def _taken_out(self, body: Body, seal_key: bytes) -> Body:
        if body.key is None:
            return body
        blob = seal.opened(seal_key, body.key, self.store.get(body.key))
        self.store.delete([body.key])
        return Body.of(blob)

    def close(self) -> None:
        """Nothing is held."""


class AwsInvoker:
    """Invokes a function of AWS Lambda, or of anything that speaks its API.

    Parameters
    ----------
    settings
        Function, region, endpoint and concurrency.
    execution
        ``lambda``, or ``emulated`` where the endpoint is on this machine.
    session
        AWS; the one that the settings describe if None.
    larger
        Functions for tasks that need more memory; None for those of the deployment.

    Raises
    ------
    ConfigurationError, AccessError, FunctionNotFoundError, UnreachableError
        The function cannot be used, and why.
    """

    def __init__(
        self,
        settings: Settings,
        execution: Execution = "lambda",
        session: aws.Session | None = None,
        larger: Larger | None = None,
    ) -> None:
        self.execution = execution
        self.remote = settings.is_remote(execution)
        session = session or aws.Session(settings)
        settings, deployment = discovery.located(session, settings)
        info = FunctionInfo.look_up(session, settings)
        if larger is None:
            larger = tuple(deployment.tiers.items()) if deployment is not None else ()
        self._tiers = Tiers(session, settings, info, larger)
        self.tiers: Sequence[int] = self._tiers.memory_mb
        self.region = session.region
        self.prices = prices_of(session.region, info.architecture, settings.prices)
        store = _open_store(session, info, settings.endpoint_url if execution == "emulated" else None)
        self._counted = _CountedStore(store)
        self.store: Store = self._counted
        self.standing_usd_per_s = self.prices.standing_usd_per_s(info.memory_mb) if info.snapstart else 0.0
        self.quota = info.quota(session)
        self.timeout_s: float | None = info.timeout_s
        self._client = session.invoking_client(
            connections=settings.limit(execution),
            read_timeout_s=settings.invocation_deadline_s or info.timeout_s + _ANSWER_MARGIN_S,
        )
        # A further tier is named, not looked up; what it costs belongs to its deployment all the same.
        name = deployment.name if deployment is not None else discovery.deployment_of(info.log_group)
        self._journal = Journal.of(name, info.account, session) if name else None
        place = f"--name {name} --region {session.region}"
        self._logs = f"dask-root-lambda logs {place}" if name and execution == "lambda" else None
        # Last: what is registered is taken out by `close` only.
        stores.register(self.store)

    def invoke(self, request: Request, cancellation: Cancellation) -> Invocation:
        """See `Invoker.invoke`."""
        payload = json.dumps(request.to_json(), separators=(",", ":")).encode()
        began_s = time.monotonic()
        try:
            info = self._tiers.function(request.tier)
            answer = self._send(info, payload, cancellation)
        except DaskRootLambdaError as error:
            if cancellation.cancelled:
                raise RunCancelledError("the run was stopped", task=request.task) from None
            error.task, error.attempt = request.task, request.attempt
            raise
        seconds = time.monotonic() - began_s
        return self._read(request, info, len(payload), answer, seconds)

    def close(self) -> None:
        """Close idle connections; those in use close when their answer is there."""
        self._client.close()
        stores.unregister(self.store)
        if self._journal:
            self._journal.flush()

    def _send(self, info: FunctionInfo, payload: bytes, cancellation: Cancellation) -> Answer:
        with abortable(cancellation), aws.translated(f"invoking {info.name!r} failed"):
            return self._client.invoke(info.name, payload, info.qualifier)

    def _read(
        self, request: Request, info: FunctionInfo, sent: int, answer: Answer, seconds: float
    ) -> Invocation:
        text, request_id = answer.payload, answer.request_id
        log = base64.b64decode(answer.log).decode(errors="replace")
        reply: Reply | None = None
        error: DaskRootLambdaError | None
        try:
            if answer.is_error:
                error = function_error(info, json.loads(text), log)
            else:
                reply = _checked(Reply.from_json(json.loads(text)), self.store)
                error = _failure(reply, request, request_id)
        except ValueError:
            error = CorruptBlobError(f"the answer is not JSON: {text[:200]!r}")
        except DaskRootLambdaError as problem:
            error = problem
        if error is not None:
            error.task, error.attempt, error.request_id = request.task, request.attempt, request_id
            error.logs = f"{self._logs} --request {request_id}" if self._logs and request_id else None
        bill = billing.parse_report(log) or _estimate(info, reply)
        usd = self.prices.usd(bill, info.storage_mb)
        if self._journal:
            self._journal.add(Spent(1, bill.billed_s, bill.gb_seconds, usd))
        sent += sum(self._counted.sent(body.key) for body in request.bodies if body.key is not None)
        stored = reply.body if reply is not None and reply.body is not None and reply.body.key else None
        received = len(text) + (stored.size if stored is not None else 0)
        return Invocation(reply, error, bill, usd, sent, received, request_id, seconds)


class _CountedStore:
    """A store that knows what was put into it since an invocation was last counted for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sizes: dict[str, int] = {}

    @property
    def url(self) -> str:
        return self._store.url

    def put(self, key: str, blob: bytes) -> bool:
        self._sizes[key] = len(blob)
        return self._store.put(key, blob)

    def get(self, key: str) -> bytes:
        return self._store.get(key)

    def delete(self, keys: Iterable[str]) -> None:
        self._store.delete(keys)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return self._store.keys(prefix)

    def sent(self, key: str) -> int:
        """Return the bytes that were put there, once: a graph is put for the first of its ranges."""
        return self._sizes.pop(key, 0)


def _checked(reply: Reply, store: Store) -> Reply:
    """Verify an inline body, and say of the other kind where it lies."""
    body: Body | None = reply.body
    if body is None:
        return reply
    if body.inline is not None:
        wire.verify(body.inline)
    return replace(reply, body=body.stored_in(store.url))


def _failure(reply: Reply, request: Request, request_id: str | None) -> DaskRootLambdaError | None:
    if reply.failure is None:
        return None
    return reply.failure.to_error(request.task, request.attempt, request_id)


def _estimate(info: FunctionInfo, reply: Reply | None) -> Billing:
    """Reckon the bill from what the function saw, where the REPORT line was cut off."""
    usage = reply.usage if reply is not None else None
    duration_s = usage.duration_s if usage else 0.0
    init_s = usage.init_s if usage and usage.invocation == 0 else None
    return Billing(
        duration_s=duration_s,
        billed_s=duration_s + (init_s or 0.0),
        memory_mb=info.memory_mb,
        peak_memory_mb=usage.peak_memory_mb if usage else 0.0,
        init_s=init_s,
    )


def _open_store(session: aws.Session, info: FunctionInfo, emulator: str | None) -> Store:
    if info.store_url is None:
        raise ConfigurationError(
            f"the function {info.name!r} has no store: set {STORE_VARIABLE} in its environment, or "
            "dask-root-lambda.aws.store here"
        )
    if not info.store_url.startswith("s3://"):
        store: Store = stores.open_store(info.store_url)
    else:
        bucket, _, prefix = info.store_url.removeprefix("s3://").partition("/")
        store = S3Store(bucket, prefix, session.client("s3"), emulator)
    return store
