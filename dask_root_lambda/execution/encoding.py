"""A call becomes a request, and its answer a result.

Keys in the store: ``mappers/DIGEST`` for graphs, ``partials/RUN/SESSION/INTERVAL`` for the partial results of
a run, ``calls/ID/...`` for what a plain call sends and returns. Graphs are named by their content, the others
are sealed.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dask_root_lambda.execution.kept import Kept
from dask_root_lambda.invocation.invokers import Invocation, Invoker
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import MapRange, Merge, PackedMapper
from dask_root_lambda.protocol import seal, wire
from dask_root_lambda.protocol.errors import (
    CorruptBlobError,
    DamagedBlobError,
    DaskRootLambdaError,
    MissingBlobError,
    MissingMapperError,
)
from dask_root_lambda.protocol.store import Store
from dask_root_lambda.protocol.task import MAX_ENVELOPE_BYTES, Body, Request, Versions, session

logger = logging.getLogger(__name__)

INLINE_MAPPER_BYTES = 4_096
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
    priority: float = 0
    """Among calls that wait, those of a higher one are first."""

    @property
    def mapper(self) -> PackedMapper | None:
        """The mapper, where the call is a range of one."""
        first = self.args[0] if isinstance(self.function, MapRange) and self.args else None
        return first if isinstance(first, PackedMapper) else None

    @property
    def run(self) -> str | None:
        """The run it belongs to, where it belongs to one."""
        return self.space.run if self.space is not None else None

    @property
    def space(self) -> RunSpace | None:
        """The space of that run."""
        if isinstance(self.function, Merge):
            return self.function.space
        return self.mapper.space if self.mapper is not None else None


class Encoder:
    """Makes requests of calls. What is too large goes into the store, and a mapper goes there once.

    Parameters
    ----------
    damaged
        Called with a range of which an earlier try has left a partial result that is damaged.
    """

    def __init__(self, damaged: Callable[[Call], None] = lambda _: None) -> None:
        self._damaged = damaged
        self._lock = threading.Lock()
        """Held to change what is remembered, never while a store is asked: that may take long."""
        self._asking: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        """Held while a store is asked for what is remembered under a name."""
        # A random number for each call would let go of the interpreter's lock each time: the kernel makes it.
        self._numbers = itertools.count()
        self._client = uuid.uuid4().hex
        self._prefix = f"calls/{self._client}-"
        self._seal_key = secrets.token_bytes(seal.KEY_BYTES)
        self._published: dict[tuple[str, str], Body] = {}
        self._left_over: dict[tuple[str, str], frozenset[str]] = {}
        self._unsure: Counter[str] = Counter()
        """How many blobs may lie in the stores, by the prefix of a space: what was put there, and what a
        function was asked for that has not answered without."""
        self._leaving: Counter[str] = Counter()
        self._left = threading.Condition()
        self._kept = Kept()

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
            space = call.function.space
            at_hand = [_at_hand(body, invoker.store, space.key) for body in call.args[0]]
            parts = _fitted(at_hand, invoker.store, space.prefix, space.key)
            self._expect(space, 1 + sum(part.key is not None for part in parts))
            place = space.place(call.function.interval)
            return Request("merge", call.task, parts, attempt, result_key=place, seal_key=space.key)
        prefix = f"{self._prefix}{next(self._numbers)}/"
        blob = wire.dumps((call.function, tuple(call.args), dict(call.kwargs or {})))
        bodies = _fitted([Body.of(blob)], invoker.store, prefix, self._seal_key)
        return Request(
            operation="call",
            task=call.task,
            bodies=bodies,
            attempt=attempt,
            result_key=f"{prefix}result",
            seal_key=self._seal_key,
            # What its functions leave in a process, such as a patched module, is no business of others.
            identity=self._client,
        )

    def left_over(self, call: Call, invoker: Invoker) -> Body | None:
        """Return the partial result of this range that an earlier try has left, which failed.

        One that is damaged is deleted: a function would not write over it.
        """
        mapper = call.mapper
        if mapper is None or not isinstance(call.function, MapRange):
            return None
        self._wait_for_leaving(mapper.space)
        store = invoker.store
        listed = self._listed(mapper.space, store)
        interval = call.function.interval
        kept = self._kept.find(mapper.space, interval, store, listed, lambda: self._damaged(call))
        if kept is not None:
            return Body.of(kept)
        for key in mapper.space.places(interval):
            if key in listed and self._is_whole(key, call, mapper.space, store):
                return Body(key=key, store=store.url)
        return None

    def any_left(self, space: RunSpace, store: Store) -> bool:
        """Tell whether earlier tries of a run have left anything."""
        return bool(self._listed(space, store)) or (not space.not_reused and self._kept.any_left(space))

    def _is_whole(self, key: str, call: Call, space: RunSpace, store: Store) -> bool:
        try:
            seal.opened(space.key, key, store.get(key))
        except MissingBlobError:
            # Another worker of the cluster may have deleted it since it was listed.
            return False
        except DamagedBlobError as error:
            logger.warning("a partial result in the store is computed again: %s", error)
            store.delete([key])
            self._damaged(call)
            return False
        return True

    def answered(self, call: Call, result: Any) -> None:
        """Take note of a result: whether it lies in the store."""
        if call.space is not None and result.inline is not None:
            self._expect(call.space, -1)

    def _expect(self, space: RunSpace, n_blobs: int) -> None:
        with self._lock:
            self._unsure[space.prefix] += n_blobs

    def keep(self, call: Call, result: Any, store: Store) -> None:
        """Keep the partial result of a range, if it is not in the store, for the case that the run fails."""
        mapper = call.mapper
        if mapper is None or not isinstance(call.function, MapRange) or result.inline is None:
            return
        if self._kept.add(mapper.space, call.function.interval, result.inline, store):
            self._expect(mapper.space, 1)

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

    def look_again(self, space: RunSpace) -> None:
        """Ask the stores anew what a run has left there, when it is tried next: it failed. Never blocks."""
        with self._lock:
            self._left_over = {
                name: kept for name, kept in self._left_over.items() if name[1] != space.prefix
            }
        self._kept.look_again(space)

    def begin_forgetting(self, space: RunSpace) -> None:
        """Let ranges of a run wait until it is forgotten: what they write would be deleted with the rest."""
        with self._left:
            self._leaving[space.prefix] += 1

    def forget(self, space: RunSpace, stores: Iterable[Store]) -> None:
        """Delete the partial results of a run that succeeded; `begin_forgetting` comes before."""
        try:
            self._kept.forget(space)
            if self._may_be_stored(space):
                for store, prefix in itertools.product(stores, space.prefixes):
                    store.delete(store.keys(prefix))
            with self._lock:
                self._unsure.pop(space.prefix, None)
        finally:
            self.look_again(space)
            with self._left:
                self._leaving[space.prefix] -= 1
                self._leaving = +self._leaving
                self._left.notify_all()

    def close(self) -> None:
        """Put into the stores what is on its way there."""
        self._kept.close()

    def _map(self, call: Call, mapper: PackedMapper, invoker: Invoker, attempt: int) -> Request:
        assert isinstance(call.function, MapRange)
        if invoker.remote:
            mapper.check_reach()
        body = Body.of(mapper.blob) if _is_small(mapper) else self._publish(mapper, invoker.store)
        self._expect(mapper.space, 1)
        return Request(
            operation="map",
            task=call.task,
            bodies=(body,),
            attempt=attempt,
            range_index=call.function.index,
            interval=call.function.interval,
            result_key=mapper.space.place(call.function.interval),
            seal_key=mapper.space.key,
            identity=mapper.identity,
            versions=Versions(root=mapper.root),
            far=mapper.far,
        )

    def _publish(self, mapper: PackedMapper, store: Store) -> Body:
        """Put a mapper into the store, the first time; return the body that stands for it."""
        name = (store.url, mapper.digest)
        with self._one_at_a_time(name):
            if name not in self._published:
                store.put(_mapper_key(mapper), mapper.blob)
                body = Body(key=_mapper_key(mapper), size=len(mapper.blob))
                with self._lock:
                    self._published[name] = body
            return self._published[name]

    def _listed(self, space: RunSpace, store: Store) -> frozenset[str]:
        """Return the partial results of a run that were in the store when it began."""
        name = (store.url, space.prefix)
        with self._one_at_a_time(name):
            if name not in self._left_over:
                # Here, where waiting is allowed: tasks are ended on Dask's event loop.
                self._kept.put(space)
                keys = store.keys(space.prefix_of_all) if self._may_be_stored(space) else ()
                listed = frozenset(keys)
                with self._lock:
                    self._left_over[name] = listed
            return self._left_over[name]

    def _may_be_stored(self, space: RunSpace) -> bool:
        """Whether the stores may have blobs for a session: to ask them takes a round trip."""
        with self._lock:
            return space.new_in != session() or self._unsure[space.prefix] > 0

    def _one_at_a_time(self, name: tuple[str, str]) -> threading.Lock:
        with self._lock:
            return self._asking[name]

    def _wait_for_leaving(self, space: RunSpace) -> None:
        with self._left:
            if not self._left.wait_for(lambda: not self._leaving[space.prefix], _LEAVING_S):
                # The next range is not to wait for it again.
                del self._leaving[space.prefix]
                logger.warning(
                    "partial results of the last time, %s, are still being deleted after %.0f s: ranges run "
                    "meanwhile, and some of them may have to run again", space.prefix, _LEAVING_S,
                )  # fmt: skip


def result(call: Call, request: Request, invocation: Invocation) -> Any:
    """Return what a call returns, of the request that was made of it and the invocation that answered.

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
        raise CorruptBlobError("the function answered without a result", task=call.task)
    if call.run is not None:
        return reply.body
    return wire.loads(reply.body.fetch(request.seal_key))


def clean_up(request: Request, invocation: Invocation | None, store: Store) -> None:
    """Delete what a plain call sent and returned through the store."""
    if request.operation != "call":
        return
    reply = invocation.reply if invocation is not None else None
    bodies = (*request.bodies, *((reply.body,) if reply is not None and reply.body is not None else ()))
    if all(body.key is None for body in bodies):
        return
    prefix = request.result_key.rpartition("/")[0] + "/"
    try:
        store.delete(store.keys(prefix))
    except DaskRootLambdaError as error:
        # The call has its result, or its error: neither may be lost for this.
        logger.warning("%s stays in the store until it expires: %s", prefix, error)


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


def _at_hand(body: Body, store: Store, seal_key: bytes) -> Body:
    """Fetch what lies in another store, since the execution was changed: a function looks into its own."""
    at_home = body.inline is not None or body.store in ("", store.url)
    return body if at_home else Body.of(body.fetch(seal_key))


def _fitted(bodies: Sequence[Body], store: Store, prefix: str, seal_key: bytes) -> tuple[Body, ...]:
    """Put bodies into the store, the largest first, until the rest fits into an envelope."""
    fitted = list(bodies)
    by_size = sorted(range(len(fitted)), key=lambda index: fitted[index].size)
    while by_size and sum(wire.encoded_size(len(body.inline or b"")) for body in fitted) > MAX_ENVELOPE_BYTES:
        largest = by_size.pop()
        blob = fitted[largest].inline
        if blob is not None:
            key = f"{prefix}{uuid.uuid4().hex}"
            store.put(key, seal.sealed(seal_key, key, blob))
            fitted[largest] = Body(key=key, size=len(blob), store=store.url)
    return tuple(fitted)
