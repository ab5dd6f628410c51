"""The function's handler: decode an event, run it, put away what is too large, reply.

The import of this module is the function's INIT phase: ROOT is imported here, once per environment.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import json
import logging
import os
import resource
import threading
import time
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ROOT

from dask_root_lambda.protocol import seal, wire
from dask_root_lambda.protocol.errors import (
    BrokenEnvironmentError,
    CompilationError,
    CorruptBlobError,
    DaskRootLambdaError,
    FullStorageError,
    RemoteError,
    TooLargeError,
)
from dask_root_lambda.protocol.store import STORE_VARIABLE, S3Store, Store, open_far, open_store
from dask_root_lambda.protocol.task import (
    MAX_ENVELOPE_BYTES,
    Body,
    Failure,
    Reply,
    Request,
    Usage,
    Versions,
    requested_versions,
)
from dask_root_lambda.protocol.traffic import Traffic, summed
from lambda_runtime import IN_FUNCTION, STARTED_S, counting, room, snapstart, tallies, traffic
from lambda_runtime.children import Children
from lambda_runtime.keeping import Place
from lambda_runtime.once import once
from lambda_runtime.runner import ROOT_VERSION, Runner
from lambda_runtime.stopping import OnStop
from lambda_runtime.storage_token import token
from lambda_runtime.surroundings import surroundings

logger = logging.getLogger(__name__)

_LONGEST_MESSAGE_BYTES = 3_200_000
"""Bytes of the envelope that an error's message takes at most: 1 MB of text, which is up to three times as
long there, control characters apart."""
_LONGEST_TEXT_BYTES = 240_000
"""Bytes of the envelope that a traceback, or what ROOT reported, takes at most."""
_LONGEST_PROBLEM = 300
"""Characters of what is told of far data that was not kept."""
_CHARACTER_BYTES = 12
"""Bytes of the envelope that a character takes at most."""

VERSIONS = Versions(root=ROOT_VERSION)
_LIBC = ctypes.CDLL(None)


class Environment:
    """What an execution environment keeps from one event to the next."""

    def __init__(self, store: Store | None = None) -> None:
        self.identifier = uuid.uuid4().hex
        self.runner = Runner(shared=not IN_FUNCTION)
        self._store = store
        self.invocations = 0
        """Events that came before the next one."""
        self._lock = threading.Lock()

    @property
    def store(self) -> Store | None:
        """The function's store, opened when first needed; None if it has none."""
        url = os.environ.get(STORE_VARIABLE)
        if self._store is None and url:
            self._store = open_store(url)
        return self._store

    def next_invocation(self) -> int:
        """Count the events of this environment, from 0."""
        with self._lock:
            self.invocations += 1
            return self.invocations - 1


@once
def environment() -> Environment:
    """Return this process's environment, made when first used."""
    return Environment()


def handler(event: Mapping[str, Any], context: object = None) -> dict[str, Any]:
    """Answer one event, in a child of this process; the entry point that Lambda calls.

    Errors are part of the answer, as data. What escapes is a defect, and Lambda reports it as such.
    """
    return _children().answer(_timed(event, context), str(getattr(context, "aws_request_id", "")))


def _timed(event: Mapping[str, Any], context: object) -> Mapping[str, Any]:
    """Tell a range that keeps far data when its invocation ends: it is not to write so long."""
    left_ms = getattr(context, "get_remaining_time_in_millis", None)
    far = event.get("far") if isinstance(event, Mapping) else None
    if left_ms is None or not isinstance(far, Mapping):
        return event
    return {**event, "far": {**far, "ends": int(time.time() + left_ms() / 1000)}}


@once
def _children() -> Children:
    environment()  # made before the children are, which share its name
    return Children(_answer, _is_spent, _full)


def _is_spent(answer: Mapping[str, Any]) -> bool:
    """Tell whether ROOT 6.40 is of no use any more in a process: after code did not compile, or a full disk.

    It compiles no new graph then, and may crash with the graph whose file it could not write.
    """
    failure = answer.get("failure")
    return failure is not None and failure["error"] in (CompilationError.__name__, FullStorageError.__name__)


def _full(disk_bytes: int) -> dict[str, Any]:
    """Answer an event whose process has filled /tmp, and ended by that."""
    usage = Usage(environment=environment().identifier, invocation=environment().invocations, init_s=_INIT_S)
    return Reply(failure=_failure(room.full(disk_bytes)), usage=usage, versions=VERSIONS).to_json()


def _answer(event: Mapping[str, Any], number: int) -> dict[str, Any]:
    surroundings.restore()
    token.keep_fresh()
    environment().invocations = number
    try:
        return answer(environment(), event).to_json()
    finally:
        # What C++ has printed belongs to this event's log: the environment may be frozen after it.
        _LIBC.fflush(None)


def answer(environment: Environment, event: Mapping[str, Any], on_stop: OnStop | None = None) -> Reply:
    """Do what an event asks for, in an environment.

    Parameters
    ----------
    environment
        What is kept between events.
    event
        A request, as JSON.
    on_stop
        See `lambda_runtime.runner.Runner.map`.
    """
    began_s, invocation, entries = time.monotonic(), environment.next_invocation(), 0
    read: list[Traffic] = []
    problems: list[str] = []
    body: Body | None = None
    failure: Failure | None = None
    try:
        requested_versions(event).check(VERSIONS)
        request = Request.from_json(event)
        blob, entries = _run(environment, request, on_stop, read, problems)
        body = _put_away(environment, request, blob)
    except DaskRootLambdaError as error:
        failure = _shortened(_failure(error))
    except _CallError as raised:
        failure = _shortened(_exception(raised.error))
    except Exception as error:
        failure = _shortened(_of_the_environment(error))
    if IN_FUNCTION:
        # One event runs at a time: what no range has asked for was read for this one all the same.
        read.extend(traffic.own(forget=True))
    told = summed(read)
    usage = Usage(
        environment=environment.identifier,
        invocation=invocation,
        init_s=_INIT_S,
        duration_s=time.monotonic() - began_s,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        entries=entries,
        bytes_read=sum(each.bytes_read for each in told),
        traffic=told,
        far_problem=problems[0][:_LONGEST_PROBLEM] if problems else "",
    )
    return Reply(body=body, failure=failure, usage=usage, versions=VERSIONS)


def _run(
    environment: Environment,
    request: Request,
    on_stop: OnStop | None,
    read: list[Traffic],
    problems: list[str],
) -> tuple[bytes, int]:
    logger.info("%s, attempt %d", request.task, request.attempt)
    runner, bodies = environment.runner, request.bodies
    if request.operation == "map":
        assert request.range_index is not None, "a request of a range has its number"
        assert request.interval is not None, "a request of a range has its interval"
        digest = _digest(bodies[0])
        with tallies.counted(read), tallies.stopping(on_stop) as stopped:
            return runner.map(
                digest,
                lambda: _fetch_mapper(environment, bodies[0], digest),
                request.range_index,
                request.interval,
                stopped,
                _place(request, problems),
            )
    if request.operation == "merge":
        return runner.merge(_fetch(environment, body, request.seal_key) for body in bodies), 0
    blob = _fetch(environment, bodies[0], request.seal_key)
    try:
        return runner.call(blob), 0
    except DaskRootLambdaError:
        raise
    except Exception as error:
        raise _CallError(error) from error


def _place(request: Request, problems: list[str]) -> Place | None:
    """Return where far data of a range is kept, if that was asked for: beside the function's store.

    Not in the user's process, which has no store that lasts.
    """
    if request.far is None or not IN_FUNCTION:
        return None
    store = _far_store()
    return Place(store, request.far, problems, request.far.ends_s or None) if store is not None else None


@once
def _far_store() -> S3Store | None:
    try:
        store = open_far(os.environ.get(STORE_VARIABLE, ""))
    except Exception as error:  # the SDK's, whose classes are made at run time: far data stays far
        logger.warning("far data is not kept: %s", error)
        return None
    if store is not None:
        _, _, endpoint = store.source.partition(" ")
        traffic.watch(store.client, endpoint)
    return store


class _CallError(Exception):
    """What the user's function raised, and not we."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _digest(body: Body) -> str:
    """Content hash of a body; the store's keys of mappers end with it."""
    return wire.digest(body.inline) if body.inline is not None else str(body.key).rpartition("/")[2]


def _fetch_mapper(environment: Environment, body: Body, digest: str) -> bytes:
    """Return a mapper, which is named by its content and not sealed: many runs of many users may share it."""
    if body.inline is not None:
        return body.inline
    blob = _store_of(environment).get(str(body.key))
    if wire.digest(blob) != digest:
        raise CorruptBlobError(f"{body.key} holds another content than its name says")
    return blob


def _fetch(environment: Environment, body: Body, seal_key: bytes) -> bytes:
    if body.inline is not None:
        return body.inline
    key = str(body.key)
    return seal.opened(seal_key, key, _store_of(environment).get(key))


def _put_away(environment: Environment, request: Request, blob: bytes) -> Body:
    """Make the result's body: inline, or in the store where it is too large."""
    if wire.encoded_size(len(blob)) <= MAX_ENVELOPE_BYTES:
        return Body.of(blob)
    key = request.result_key
    # Another attempt may have written it already: the same task, so as good.
    _store_of(environment).put(key, seal.sealed(request.seal_key, key, blob))
    return Body(key=key, size=len(blob))


def _store_of(environment: Environment) -> Store:
    if environment.store is None:
        raise TooLargeError(
            f"what does not fit into an envelope of {MAX_ENVELOPE_BYTES:,} bytes goes through a store, and "
            f"the function has none: set its environment variable {STORE_VARIABLE}"
        )
    return environment.store


def _failure(error: DaskRootLambdaError) -> Failure:
    failure = Failure(type(error).__name__, error.message)
    if not isinstance(error, RemoteError):
        return failure
    return Failure(type(error).__name__, error.message, error.type_name, error.traceback, error.diagnostics)


def _of_the_environment(error: Exception) -> Failure:
    """Make data of an exception of ours: of a full disk, or of a defect."""
    logger.error("could not do what was asked", exc_info=error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "; give its /tmp more room" if full else ""
    return Failure(
        BrokenEnvironmentError.__name__,
        f"the environment could not do what was asked: {type(error).__name__}: {error} "
        f"({Path(where.filename).name}, line {where.lineno}){advice}",
    )


def _exception(error: Exception) -> Failure:
    """Make data of an exception that user code raised in a ``call``."""
    if IN_FUNCTION and isinstance(error, ModuleNotFoundError):
        error = ModuleNotFoundError(
            f"{error}: it is not in the function's image, where `dask-root-lambda deploy --package` puts it",
            name=error.name,
        )
    try:
        exception = wire.encode(wire.dumps(error))
    except Exception:  # whatever its class does when it is pickled
        exception = ""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    return Failure("UserCodeError", f"{name}: {error}", name, traceback.format_exc(), exception=exception)


def _shortened(failure: Failure) -> Failure:
    """Let an error fit into an envelope: without the exception itself, if that is too large beside it."""
    short = replace(
        failure,
        message=_clipped(failure.message, _LONGEST_MESSAGE_BYTES),
        traceback=_clipped(failure.traceback, _LONGEST_TEXT_BYTES),
        diagnostics=_clipped(failure.diagnostics, _LONGEST_TEXT_BYTES),
        exception="",
    )
    left = MAX_ENVELOPE_BYTES - len(json.dumps(asdict(short)))
    return replace(short, exception=failure.exception) if len(failure.exception) <= left else short


def _clipped(text: str, longest_bytes: int) -> str:
    """Leave the middle of a text out that takes more than so many bytes of an envelope."""
    if len(json.dumps(text)) <= longest_bytes:
        return text
    half = longest_bytes // _CHARACTER_BYTES // 2
    return f"{text[:half]}\n... of {len(text):,} characters ...\n{text[-half:]}"


def _own_process() -> None:
    """Set up a process that is the function's alone."""
    ROOT.gROOT.SetBatch(True)
    # A crash is to end the process by its signal, which Lambda reports, with a short traceback in the log;
    # ROOT's own handler would look for a debugger first, and exit with a status that says nothing.
    ROOT.gSystem.ResetSignals()
    faulthandler.enable()
    # Once for all children: each would compile it before its first range.
    tallies.declare()
    counting.new_counter()
    snapstart.prepare()
    # What there is now stays: children need not look through it for garbage, nor copy its pages for that.
    gc.freeze()


if IN_FUNCTION:
    _own_process()
_INIT_S = time.monotonic() - STARTED_S
