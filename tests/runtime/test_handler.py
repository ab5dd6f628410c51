"""The handler answers every event, with a result or with an error as data."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest

from dask_root_lambda.protocol import seal, task, wire
from dask_root_lambda.protocol.errors import BrokenEnvironmentError
from dask_root_lambda.protocol.intervals import divided
from dask_root_lambda.protocol.store import MemoryStore
from dask_root_lambda.protocol.task import Body, Reply, Request, Versions
from lambda_runtime import handler
from lambda_runtime.handler import Environment, answer
from lambda_runtime.once import once
from tests.invokers import KEY


def ask(request, environment=None):
    event = json.loads(json.dumps(request.to_json()))
    return Reply.from_json(json.loads(json.dumps(answer(environment or Environment(), event).to_json())))


def call(function, *args, **kwargs):
    return Request(
        "call",
        "task",
        (Body.of(wire.dumps((function, args, kwargs))),),
        result_key="calls/1/result",
        seal_key=KEY,
    )


def test_a_call_answers_with_its_value():
    """A function runs with its arguments."""
    assert wire.loads(ask(call(pow, 2, exp=5)).body.inline) == 32


def test_an_exception_is_data_with_its_traceback():
    """What user code raises comes back as its type, message and traceback, and as itself."""

    def fail():
        raise ValueError("of mine")

    failure = ask(call(fail)).failure
    assert (failure.error, failure.type_name) == ("UserCodeError", "builtins.ValueError")
    assert "in fail" in failure.traceback
    assert isinstance(wire.loads(wire.decode(failure.exception)), ValueError)


def test_an_exception_that_cannot_be_pickled_is_still_told():
    """An exception that holds what cannot travel comes back as text."""

    def fail():
        error = ValueError("with a lock")
        error.lock = __import__("threading").Lock()
        raise error

    failure = ask(call(fail)).failure
    assert failure.exception == ""
    assert "with a lock" in failure.message


def test_a_module_that_the_image_has_not(monkeypatch):
    """The error says how it gets there."""
    monkeypatch.setattr(handler, "IN_FUNCTION", True)
    failure = ask(call(__import__, "nowhere_to_be_found")).failure
    assert failure.type_name == "builtins.ModuleNotFoundError"
    error = wire.loads(wire.decode(failure.exception))
    assert error.name == "nowhere_to_be_found"
    assert "not in the function's image, where `dask-root-lambda deploy --package` puts it" in str(error)


class StubbornError(Exception):
    def __reduce__(self):
        raise ValueError


def test_an_exception_whose_class_refuses_to_be_pickled_is_told():
    """Whatever an exception does when it is pickled, its message and traceback arrive."""

    def fail():
        raise StubbornError("of the user")

    failure = ask(call(fail)).failure
    assert failure.error == "UserCodeError"
    assert "of the user" in failure.message
    assert failure.exception == ""


class LadenError(Exception):
    def __init__(self, message, data):
        super().__init__(message, data)
        self.message = message

    def __str__(self):
        return self.message


def test_an_exception_too_large_to_travel_is_told():
    """The user's error arrives as class, message and traceback; the answer stays under the limit."""

    def fail():
        raise LadenError("of the user", os.urandom(6_000_000))

    reply = ask(call(fail))
    failure = reply.failure
    assert (failure.error, failure.type_name) == ("UserCodeError", f"{__name__}.LadenError")
    assert failure.message.endswith("LadenError: of the user")
    assert "in fail" in failure.traceback
    assert failure.exception == ""


@pytest.mark.parametrize("letter", ["x", "\n", "\U0001f4a5"])
def test_a_message_of_a_megabyte_arrives_whole(letter):
    """Class and text are kept, of the exception itself as well."""
    text = letter * (1_000_000 // len(letter.encode()))

    def fail():
        raise ValueError(text)

    failure = ask(call(fail)).failure
    assert len(json.dumps(asdict(failure))) < task.MAX_ENVELOPE_BYTES
    assert failure.message == f"builtins.ValueError: {text}"
    assert "in fail" in failure.traceback
    exception = wire.loads(wire.decode(failure.exception))
    assert (type(exception), str(exception)) == (ValueError, text)


@pytest.mark.parametrize("letter", ["x", "\n", "\x01", "\U0001f4a5"])
def test_a_message_too_long_to_travel_is_shortened(letter):
    """Of a message of megabytes, which is in the traceback again, beginning and end arrive."""

    def fail():
        raise ValueError(f"begins {letter * 7_000_000} ends")

    failure = ask(call(fail)).failure
    assert len(json.dumps(asdict(failure))) < task.MAX_ENVELOPE_BYTES
    assert failure.message.startswith("builtins.ValueError: begins ")
    assert "of 7,000,033 characters" in failure.message
    assert failure.message.endswith(" ends")
    assert "in fail" in failure.traceback


@pytest.mark.parametrize(
    ("operation", "step"),
    [("map", "_fetch_mapper"), ("merge", "_fetch"), ("call", "_fetch"), ("call", "_put_away")],
)
def test_what_fails_of_ours_is_not_the_users(monkeypatch, operation, step):
    """A full disk where a request is prepared, or its result put away, is the environment's: tried again."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(handler, step, full)
    failure = ask(
        replace(call(abs, -1), operation=operation, range_index=0, interval=divided(1, 1)[0])
    ).failure
    error = failure.to_error("task", 1, None)
    assert isinstance(error, BrokenEnvironmentError)
    assert error.retryable
    assert "OSError: [Errno 28] No space left on device (test_handler.py" in str(error)
    assert "give its /tmp more room" in str(error)


def test_threads_that_ask_first_share_what_is_made_once():
    """Two that ask at once get one environment, not one each."""
    making, made = threading.Barrier(2), []

    @once
    def make():
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    def ask_for_it():
        making.wait(10)
        return make()

    with ThreadPoolExecutor(2) as pool:
        first, second = [pool.submit(ask_for_it) for _ in range(2)]
    assert first.result() is second.result() is made[0]
    assert len(made) == 1


def test_versions_are_compared_before_anything_is_unpickled():
    """A client of another Python minor is told so, whatever else it sends."""
    request = Request("call", "task", (Body.of(b"not even a blob"),), versions=Versions(python="3.8"))
    assert ask(request).failure.error == "VersionMismatchError"


def test_a_corrupt_body_is_refused():
    """Bytes that are not what was sent are never unpickled."""
    assert ask(Request("call", "task", (Body.of(b"garbage"),))).failure.error == "CorruptBlobError"


@pytest.mark.parametrize(
    "event", [{}, {"op": "map", "wire": wire.WIRE_VERSION, "python": task.PYTHON_VERSION}]
)
def test_an_event_of_somebody_else_is_answered(event):
    """An event that is no request gets an error, not a crash of the function."""
    failure = Reply.from_json(handler.handler(event)).failure
    assert failure.error in ("VersionMismatchError", "ProtocolError")


def test_a_large_result_goes_into_the_store(monkeypatch):
    """A result over the envelope's limit is put into the store under the key that the request gave."""
    monkeypatch.setattr(handler, "MAX_ENVELOPE_BYTES", 100)
    store = MemoryStore()
    reply = ask(call(lambda: bytes(range(256)) * 10), Environment(store))
    assert reply.body.key == "calls/1/result"
    sealed = store.get("calls/1/result")
    assert wire.loads(seal.opened(KEY, "calls/1/result", sealed)) == bytes(range(256)) * 10


def test_a_large_result_that_is_there_already_is_success(monkeypatch):
    """A second attempt of the same task does not overwrite what the first one put."""
    monkeypatch.setattr(handler, "MAX_ENVELOPE_BYTES", 100)
    store = MemoryStore()
    first = wire.dumps("of the first attempt")
    store.put("calls/1/result", first)
    reply = ask(call(lambda: bytes(range(256)) * 10), Environment(store))
    assert reply.failure is None
    assert store.get("calls/1/result") == first


def test_without_a_store_a_large_result_says_what_to_set(monkeypatch):
    """A function without a store names the environment variable that it lacks."""
    monkeypatch.setattr(handler, "MAX_ENVELOPE_BYTES", 100)
    monkeypatch.delenv(handler.STORE_VARIABLE, raising=False)
    failure = ask(call(lambda: bytes(range(256)) * 10)).failure
    assert failure.error == "TooLargeError"
    assert handler.STORE_VARIABLE in failure.message


def test_a_body_in_the_store_is_fetched():
    """Arguments that were too large to be inline are read from the store."""
    store = MemoryStore()
    blob = wire.dumps((len, ("abc",), {}))
    store.put("calls/2/in", seal.sealed(KEY, "calls/2/in", blob))
    request = Request("call", "task", (Body(key="calls/2/in", size=len(blob)),), seal_key=KEY)
    assert wire.loads(ask(request, Environment(store)).body.inline) == 3


@pytest.mark.parametrize("operation", ["call", "merge"])
def test_what_another_has_put_there_is_not_unpickled(operation):
    """A body in the store that this client has not sealed, or has sealed for another place, is refused."""
    store = MemoryStore()
    blob = wire.dumps((len, ("abc",), {}))
    for key, found in (
        ("a", blob),
        ("b", seal.sealed(b"x" * 16, "b", blob)),
        ("c", seal.sealed(KEY, "a", blob)),
    ):
        store.put(key, found)
        request = Request(operation, "task", (Body(key=key, size=len(blob)),), seal_key=KEY)
        failure = ask(request, Environment(store)).failure
        assert failure.error == "DamagedBlobError"
        assert f"{key} is not what this run put there" in failure.message


def test_a_mapper_under_the_wrong_name_is_refused():
    """A mapper's key is its hash; another content under that key is corruption."""
    store = MemoryStore()
    store.put("mappers/abc", wire.dumps("not the mapper"))
    whole = divided(1, 1)[0]
    request = Request("map", "task", (Body(key="mappers/abc", size=1),), range_index=0, interval=whole)
    assert ask(request, Environment(store)).failure.error == "CorruptBlobError"


def test_usage_tells_a_new_environment_from_a_used_one():
    """The first task of an environment has number 0; memory and times are positive."""
    environment = Environment()
    first, second = (ask(call(abs, -1), environment).usage for _ in range(2))
    assert (first.invocation, second.invocation) == (0, 1)
    assert first.environment == second.environment
    # In the MB of Lambda's own reports, 2^20 bytes; Linux counts in 2^10.
    assert 10 < first.peak_memory_mb <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert first.duration_s >= 0


def test_nothing_of_the_payload_is_logged(caplog):
    """Logs hold the task's key, and nothing that the user sent."""
    with caplog.at_level(logging.DEBUG):
        ask(call(lambda: "secret-of-the-user"))
    assert "secret" not in caplog.text
    assert "task" in caplog.text
