"""An invoker that does what a table says, behind the same interface as the real ones."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from dask_root_lambda.cost.billing import Billing
from dask_root_lambda.cost.prices import prices_of
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.invocation.invokers import Invocation
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import PackedMapper
from dask_root_lambda.protocol import seal, wire
from dask_root_lambda.protocol.errors import DaskRootLambdaError, MissingBlobError, RunCancelledError
from dask_root_lambda.protocol.intervals import divided
from dask_root_lambda.protocol.seal import KEY_BYTES
from dask_root_lambda.protocol.store import MemoryStore
from dask_root_lambda.protocol.task import Body, Reply, Request, Usage


def packed_mapper(run, blob=b"blob", digest="digest", n_ranges=3, **options):
    """Make a mapper of so many files, a range each."""
    return PackedMapper(RunSpace(run, KEY, "session"), blob, digest, divided(n_ranges, n_ranges), **options)


KEY = b"k" * KEY_BYTES
"""Seals what stand-ins put into stores."""
MAPPER = packed_mapper("run")
"""Of three ranges, which scripted invokers answer."""

Outcome = DaskRootLambdaError | Callable[[], Any] | None


class ScriptedInvoker:
    """Per task, a list of what its tries meet: an error, something to call, or None for success.

    Calls are really made, in the calling thread; ranges answer with their index, where their mapper is.
    """

    prices = prices_of("us-east-1")
    remote = True
    bill = Billing(duration_s=1.0, billed_s=1.0, memory_mb=1024)
    region = ""
    standing_usd_per_s = 0.0
    quota = None
    tiers = (1024,)
    timeout_s = None

    def __init__(self, execution="lambda", script=None, store=None):
        self.execution = execution
        self.store = self.functions_store = store or MemoryStore()
        self.requests: list[Request] = []
        self.closed = False
        self.peak = 0
        self._script = defaultdict(list, {name: list(outcomes) for name, outcomes in (script or {}).items()})
        self._in_flight = 0
        self._lock = threading.Lock()

    def invoke(self, request, cancellation):
        with self._lock:
            self.requests.append(request)
            self._in_flight += 1
            self.peak = max(self.peak, self._in_flight)
            outcomes = self._script[request.task]
            outcome = outcomes.pop(0) if outcomes else None
        try:
            if isinstance(outcome, DaskRootLambdaError):
                raise outcome
            if outcome is not None:
                outcome()
            if cancellation.cancelled:
                raise RunCancelledError("stopped")
            return self._answer(request)
        finally:
            with self._lock:
                self._in_flight -= 1

    def _answer(self, request):
        bill, body = self.bill, request.bodies[0]
        usd = self.prices.usd(bill)
        try:
            sent = body.inline or self._stored(request, body.key)
        except MissingBlobError as error:
            return Invocation(Reply(), error, bill, usd, 100, 0, "request")
        if request.operation == "call":
            function, args, kwargs = wire.loads(sent)
            value = function(*args, **kwargs)
        else:
            value = request.range_index
        blob = wire.dumps(value)
        reply = Reply(body=Body.of(blob), usage=Usage(entries=10))
        return Invocation(reply, None, bill, usd, 100, len(blob), "request")

    def _stored(self, request, key):
        found = self.functions_store.get(key)
        return found if request.operation == "map" else seal.opened(request.seal_key, key, found)

    def close(self):
        self.closed = True


class Gate:
    """Something to wait at, with a deadline: a test opens it when it has seen enough."""

    def __init__(self):
        self._opened = threading.Event()
        self.arrived = threading.Semaphore(0)

    def __call__(self):
        self.arrived.release()
        assert self._opened.wait(30), "nobody opened the gate"

    def wait_for(self, count):
        for _ in range(count):
            assert self.arrived.acquire(timeout=30), "too few arrived at the gate"

    def open(self):
        self._opened.set()


def ranges(executor, n_ranges=3, mapper=MAPPER):
    """Submit ranges to an executor; return their futures."""
    return [
        executor.submit_call(Call(f"range-{step.index}", step, [mapper])) for step in mapper.ranges[:n_ranges]
    ]
