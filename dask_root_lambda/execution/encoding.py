"""A call becomes a request, and its answer a result.

Keys in the store: ``mappers/SHA256`` for graphs, ``partials/RUN/...`` for the partial results of a run,
``calls/ID/...`` for what a plain call sends and returns.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask_root_lambda.invocation.invokers import Invocation, Invoker
from dask_root_lambda.plan.steps import MapRange, Merge, PackedMapper
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import MissingBlobError, MissingMapperError, ProtocolError
from dask_root_lambda.protocol.store import Store
from dask_root_lambda.protocol.task import MAX_ENVELOPE_BYTES, Body, Request, Versions

INLINE_MAPPER_BYTES = 8_192
"""A mapper up to this size travels with each range: cheaper than a question to the store from each new
environment."""


_LEAVING_S = 60.0
"""How long a range waits for what an earlier run of the same identity left to be deleted."""


@dataclass(frozen=True)
class Call:
    """A function and its arguments, under the key of a task."""

    task: str
    function: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None

    @property
    def mapper(self) -> PackedMapper | None:
        """The mapper, where the call is a range of one."""
        first = self.args[0] if isinstance(self.function, MapRange) and self.args else None
        return first if isinstance(first, PackedMapper) else None

    @property
    def run(self) -> str | None:
        """The run it belongs to, where it belongs to one."""
        if isinstance(self.function, Merge):
            return self.function.run
        return self.mapper.run if self.mapper is not None else None


class Encoder:
    """Makes requests of calls. What is too large goes into the store, and a mapper goes there once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A random number for each call would let go of the interpreter's lock each time: the kernel makes it.
        self._numbers = itertools.count()
        self._prefix = f"calls/{uuid.uuid4().hex}-"
        self._published: dict[tuple[str, str], Body] = {}
        self._left_over: dict[tuple[str, str], frozenset[str]] = {}
        self._leaving: Counter[str] = Counter()
        self._left = threading.Condition()

    def request(self, call: Call, invoker: Invoker, attempt: int) -> Request:
        """Make the request of a call.

        Raises
        ------
        InputError
            The function runs on another machine, and the call needs files of this one.
        StoreError
            The store failed.
        """
        if call.mapper is not None:
            return self._map(call, call.mapper, invoker, attempt)
        if isinstance(call.function, Merge):
            prefix = partials(call.function.run)
            at_hand = [_at_hand(body, invoker.store) for body in call.args[0]]
            parts = _fitted(at_hand, invoker.store, prefix)
            return Request("merge", call.task, parts, attempt, result_key=f"{prefix}{uuid.uuid4().hex}")
        prefix = f"{self._prefix}{next(self._numbers)}/"
        blob = wire.dumps((call.function, tuple(call.args), dict(call.kwargs or {})))
        bodies = _fitted([Body.of(blob)], invoker.store, prefix)
        return Request("call", call.task, bodies, attempt, result_key=f"{prefix}result")

    def left_over(self, call: Call, invoker: Invoker) -> Body | None:
        """Return the partial result that an earlier run, which failed, left in the store for this range."""
        mapper = call.mapper
        if mapper is None or not isinstance(call.function, MapRange):
            return None
        self._wait_for_leaving(mapper.run)
        key, store = _partial_key(mapper, call.function.index), invoker.store
        # Another worker of the cluster may have deleted it since it was listed.
        if key not in self._listed(mapper, store) or key not in store.keys(key):
            return None
        return Body(key=key, store=store.url)

    def missing(self, request: Request, store: Store, error: MissingBlobError) -> MissingBlobError:
        """Make the error of a request for which the function did not find a blob.

        A mapper, which expires in the store, is put there again by the next request.
        """
        if request.operation != "map":
            return error
        with self._lock:
            # Not by its name: another range that missed it too may have put it there again meanwhile.
            self._published = {
                name: body for name, body in self._published.items() if body is not request.bodies[0]
            }
        return MissingMapperError(
            f"{error.message}. Where putting it there again does not help, the function's store is not the "
            f"client's, {store.url}",
            task=error.task,
            attempt=error.attempt,
            request_id=error.request_id,
        )

    def look_again(self, run: str) -> None:
        """Ask the stores anew what a run has left there: it failed."""
        with self._lock:
            self._left_over = {name: kept for name, kept in self._left_over.items() if name[1] != run}

    def begin_forgetting(self, run: str) -> None:
        """Let ranges of a run wait until it is forgotten: what they write would be deleted with the rest."""
        with self._left:
            self._leaving[run] += 1

    def forget(self, run: str, stores: Iterable[Store]) -> None:
        """Delete the partial results of a run that succeeded; `begin_forgetting` comes before."""
        try:
            for store in stores:
                store.delete(store.keys(partials(run)))
        finally:
            self.look_again(run)
            with self._left:
                self._leaving[run] -= 1
                self._leaving = +self._leaving
                self._left.notify_all()

    def _map(self, call: Call, mapper: PackedMapper, invoker: Invoker, attempt: int) -> Request:
        assert isinstance(call.function, MapRange)
        if invoker.remote:
            mapper.check_reach()
        body = Body.of(mapper.blob) if _is_small(mapper) else self._publish(mapper, invoker.store)
        return Request(
            operation="map",
            task=call.task,
            bodies=(body,),
            attempt=attempt,
            range_index=call.function.index,
            result_key=_partial_key(mapper, call.function.index),
            identity=mapper.identity,
            versions=Versions(root=mapper.root),
        )

    def _publish(self, mapper: PackedMapper, store: Store) -> Body:
        """Put a mapper into the store, the first time; return the body that stands for it."""
        name = (store.url, mapper.digest)
        with self._lock:
            if name not in self._published:
                store.put(_mapper_key(mapper), mapper.blob)
                self._published[name] = Body(key=_mapper_key(mapper), size=len(mapper.blob))
            return self._published[name]

    def _listed(self, mapper: PackedMapper, store: Store) -> frozenset[str]:
        """Return the partial results of a mapper's run that were in the store when it began."""
        name = (store.url, mapper.run)
        with self._lock:
            if name not in self._left_over:
                self._left_over[name] = frozenset(store.keys(partials(mapper.run)))
            return self._left_over[name]

    def _wait_for_leaving(self, run: str) -> None:
        with self._left:
            self._left.wait_for(lambda: not self._leaving[run], _LEAVING_S)


def result(call: Call, invocation: Invocation) -> Any:
    """Return what a call returns, of the invocation that answered it.

    Ranges and merges return a `Body`, unopened.

    Raises
    ------
    Exception
        Of a plain call: what the function raised, caused by a `UserCodeError` with its traceback.
    DaskRootLambdaError
        What went wrong otherwise.
    """
    reply = invocation.reply
    if invocation.error is not None:
        raise _original(invocation) or invocation.error
    if reply is None or reply.body is None:
        raise ProtocolError("the function answered without a result", task=call.task)
    if call.run is not None:
        return reply.body
    return wire.loads(reply.body.fetch())


def clean_up(request: Request, invocation: Invocation | None, store: Store) -> None:
    """Delete what a plain call sent and returned through the store."""
    if request.operation != "call":
        return
    reply = invocation.reply if invocation is not None else None
    bodies = (*request.bodies, *((reply.body,) if reply is not None and reply.body is not None else ()))
    if any(body.key is not None for body in bodies):
        store.delete(store.keys(request.result_key.rpartition("/")[0] + "/"))


def partials(run: str) -> str:
    """Prefix of the keys of a run's partial results."""
    return f"partials/{run}/"


def _original(invocation: Invocation) -> BaseException | None:
    """Unpickle the exception that a plain call raised, where it can be."""
    failure = invocation.reply.failure if invocation.reply is not None else None
    if failure is None or not failure.exception:
        return None
    try:
        exception = wire.loads(wire.decode(failure.exception))
    except Exception:  # whatever its class does when it is unpickled; the UserCodeError tells the rest
        return None
    if not isinstance(exception, BaseException):
        return None
    exception.__cause__ = invocation.error
    return exception


def _is_small(mapper: PackedMapper) -> bool:
    return len(mapper.blob) <= INLINE_MAPPER_BYTES


def _mapper_key(mapper: PackedMapper) -> str:
    return f"mappers/{mapper.digest}"


def _partial_key(mapper: PackedMapper, index: int) -> str:
    return f"{partials(mapper.run)}{index}"


def _at_hand(body: Body, store: Store) -> Body:
    """Fetch what lies in another store, since the execution was changed: a function looks into its own."""
    return body if body.inline is not None or body.store in ("", store.url) else Body.of(body.fetch())


def _fitted(bodies: Sequence[Body], store: Store, prefix: str) -> tuple[Body, ...]:
    """Put bodies into the store, the largest first, until the rest fits into an envelope."""
    fitted = list(bodies)
    by_size = sorted(range(len(fitted)), key=lambda index: fitted[index].size)
    while by_size and sum(wire.encoded_size(len(body.inline or b"")) for body in fitted) > MAX_ENVELOPE_BYTES:
        largest = by_size.pop()
        blob = fitted[largest].inline
        if blob is not None:
            key = f"{prefix}{uuid.uuid4().hex}"
            store.put(key, blob)
            fitted[largest] = Body(key=key, size=len(blob), store=store.url)
    return tuple(fitted)
