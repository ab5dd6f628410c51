"""What an executor puts into the store: graphs, results and arguments, and what it deletes again."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from dask_root_lambda import RDataFrame
from dask_root_lambda.execution import encoding
from dask_root_lambda.execution.encoding import INLINE_MAPPER_BYTES, Call
from dask_root_lambda.execution.executor import LambdaExecutor
from dask_root_lambda.protocol import seal, wire
from dask_root_lambda.protocol.errors import AccessError, MissingMapperError, StoreError
from dask_root_lambda.protocol.store import MemoryStore
from dask_root_lambda.rdf import packing
from lambda_runtime.handler import Environment
from tests.invokers import KEY, MAPPER, Gate, packed_mapper, ranges


def test_a_small_mapper_travels_inline_and_a_large_one_once(make_executor):
    """A large mapper is put into the store one time, under its hash; ranges then hold only its key."""
    executor, invoker = make_executor()
    [future.result(30) for future in ranges(executor)]
    assert [request.bodies[0].inline for request in invoker.requests] == [b"blob"] * 3
    large = packed_mapper("large", b"x" * 100_000, "abc")
    [future.result(30) for future in ranges(executor, mapper=large)]
    assert {request.bodies[0].key for request in invoker.requests[3:]} == {"mappers/abc"}
    assert list(invoker.store.keys()) == ["mappers/abc"]


def test_a_mapper_that_expired_is_put_into_the_store_again(make_executor):
    """Blobs in the store expire; a session that lasts longer does not notice."""
    executor, invoker = make_executor()
    large = packed_mapper("large", b"x" * 100_000, "abc")
    [future.result(30) for future in ranges(executor, mapper=large)]
    invoker.store.delete(["mappers/abc"])
    [future.result(30) for future in ranges(executor, 50, mapper=large)]
    assert invoker.store.get("mappers/abc") == large.blob
    assert executor.report().total.failures == 0


def test_a_mapper_that_the_function_does_not_find_is_an_error(make_executor, monkeypatch):
    """A function with another store than ours is told after one more try."""
    executor, invoker = make_executor()
    monkeypatch.setattr(invoker, "functions_store", MemoryStore())
    large = packed_mapper("large", b"x" * 100_000, "abc")
    with pytest.raises(MissingMapperError, match=r"no mappers/abc in memory:.*is not the client's, memory:"):
        ranges(executor, 1, mapper=large)[0].result(30)
    assert [request.attempt for request in invoker.requests] == [1, 2]


def test_an_environment_finds_a_mapper_that_expired(events_file):
    """The same with the real handler: the environment that meets the gap is a new one."""
    frame = RDataFrame("Events", events_file)
    total = frame.Filter(f"x >= 0 /* {os.urandom(10_000).hex()} */").Sum("x")
    mapper = packing.pack(frame._headnode, [total.node], 2).mapper
    assert len(mapper.blob) > INLINE_MAPPER_BYTES
    with LambdaExecutor("local") as executor:
        invoker = executor._invokers["local"]
        bodies = [future.result(60) for future in ranges(executor, 1, mapper)]
        invoker.store.delete(invoker.store.keys("mappers/"))
        invoker._environment = Environment(invoker.store)
        bodies += [executor.submit_call(Call("range-1", mapper.ranges[1], [mapper])).result(60)]
    assert sum(wire.loads(body.inline).processed for body in bodies) == 1000
    assert total is not None


def leave(store, key):
    """Put a partial result into a store, as a range does."""
    store.put(key, seal.sealed(KEY, key, b"left over"))


@pytest.mark.parametrize("change", [b"", b"\0", None], ids=["cut off", "changed", "of another place"])
def test_what_is_damaged_in_the_store_is_computed_again(make_executor, caplog, change):
    """It is neither believed nor in the way of the new one, and the report counts it."""
    executor, invoker = make_executor()
    key, other = "partials/run/session/1-2", "partials/run/session/0-1"
    sealed = seal.sealed(KEY, key if change is not None else other, b"left over")
    invoker.store.put(key, sealed[:-1] + change if change is not None else sealed)
    bodies = [future.result(30) for future in ranges(executor)]
    assert bodies[1].inline is not None
    assert sorted(request.range_index for request in invoker.requests) == [0, 1, 2]
    assert key not in list(invoker.store.keys())
    report = executor.report()
    assert (report.runs[0].mended, report.total.mended, report.total.failures) == (1, 1, 0)
    assert "1 partial results of earlier tries were damaged" in str(report)
    assert "computed again" in caplog.text


def test_what_a_failed_run_left_is_not_computed_again(make_executor):
    """A partial result that lies in the store under the same identity is taken as it is."""
    executor, invoker = make_executor()
    leave(invoker.store, "partials/run/session/1-2")
    bodies = [future.result(30) for future in ranges(executor)]
    assert bodies[1].key == "partials/run/session/1-2"
    assert sorted(request.range_index for request in invoker.requests) == [0, 2]


def test_what_a_run_left_is_deleted_when_it_succeeded(make_executor):
    """Forgetting a run removes its partial results and nothing else; the next run starts afresh."""
    executor, invoker = make_executor()
    for key in ("partials/run/session/1-2", "partials/other/1"):
        leave(invoker.store, key)
    [future.result(30) for future in ranges(executor)]
    executor.forget(MAPPER.space).join(30)
    assert list(invoker.store.keys()) == ["partials/other/1"]
    [future.result(30) for future in ranges(executor)]
    assert len(invoker.requests) == 2 + 3


def test_what_a_run_that_failed_here_left_is_found(make_executor):
    """The next try in the same session takes what the first one left, too."""
    executor, invoker = make_executor(script={"range-2": [AccessError("no")]})
    futures = ranges(executor)
    assert isinstance(futures[2].exception(30), AccessError)
    [future.result(30) for future in futures[:2]]
    leave(invoker.store, "partials/run/session/0-1")
    assert [future.result(30).key for future in ranges(executor)] == ["partials/run/session/0-1", None, None]


def test_what_another_worker_deleted_is_computed_again(make_executor):
    """A partial result that was there when the run was first looked at, and is not now, is no result."""
    executor, invoker = make_executor()
    leave(invoker.store, "partials/run/session/1-2")
    assert ranges(executor)[1].result(30).key == "partials/run/session/1-2"
    invoker.store.delete(["partials/run/session/1-2"])
    assert ranges(executor)[1].result(30).key is None


def test_ranges_wait_until_the_same_run_before_is_forgotten(make_executor, monkeypatch):
    """What a range writes is not deleted together with what its predecessor left."""
    executor, invoker = make_executor()
    gate = Gate()
    delete = invoker.store.delete

    def slow_delete(keys):
        gate()
        delete(keys)

    monkeypatch.setattr(invoker.store, "delete", slow_delete)
    forgetting = executor.forget(MAPPER.space)
    gate.wait_for(1)
    futures = ranges(executor)
    other = packed_mapper("other")
    [future.result(30) for future in ranges(executor, 1, other)]
    assert not any(future.done() for future in futures)
    gate.open()
    [future.result(30) for future in futures]
    assert not forgetting.is_alive()


def test_a_store_that_never_deletes_is_waited_for_once(make_executor, monkeypatch, caplog):
    """Ranges of the next run do not wait for it one after the other, and the user is told."""
    monkeypatch.setattr(encoding, "_LEAVING_S", 0.2)
    executor, invoker = make_executor(concurrency=1)
    gate = Gate()
    monkeypatch.setattr(invoker.store, "delete", lambda keys: gate())
    forgetting = executor.forget(MAPPER.space)
    gate.wait_for(1)
    [future.result(30) for future in ranges(executor)]
    assert caplog.text.count("still being deleted") == 1
    gate.open()
    forgetting.join(30)
    [future.result(30) for future in ranges(executor)]
    assert len(invoker.requests) == 6


def test_large_arguments_and_results_of_calls_go_through_the_store(make_executor):
    """A call's arguments over the limit travel by key; afterwards nothing of them is left."""
    executor, invoker = make_executor()
    data = os.urandom(6_000_000)
    assert executor.submit(len, data).result(30) == 6_000_000
    assert invoker.requests[0].bodies[0].inline is None
    assert list(invoker.store.keys("calls/")) == []


@pytest.mark.parametrize("value", [b"x" * 10, ValueError("of the user")])
def test_what_cannot_be_deleted_costs_neither_result_nor_error(make_executor, monkeypatch, caplog, value):
    """The function has run, and is not run again because its arguments stay in the store."""
    executor, invoker = make_executor()
    calls = []

    def delete(keys):
        raise StoreError("503 SlowDown")

    def run(data):
        calls.append(len(data))
        if isinstance(value, Exception):
            raise value
        return value

    monkeypatch.setattr(invoker.store, "delete", delete)
    future = executor.submit(_Here(run), os.urandom(6_000_000))
    if isinstance(value, Exception):
        assert isinstance(future.exception(30), ValueError)
    else:
        assert future.result(30) == value
    assert calls == [6_000_000]
    assert "stays in the store until it expires: 503 SlowDown" in caplog.text


class _Here:
    """A function that stays in this process: pickled, it is a number."""

    known: ClassVar[list[Any]] = []

    def __init__(self, function):
        self.known.append(function)
        self.number = len(self.known) - 1

    def __call__(self, *args):
        return self.known[self.number](*args)


@pytest.mark.parametrize("operation", ["put", "keys"])
def test_a_store_that_is_slow_for_one_run_stops_no_other(make_executor, monkeypatch, operation):
    """While one run's graph is on its way to S3, or its partial results are listed, others go on."""
    executor, invoker = make_executor()
    gate, ask = Gate(), getattr(invoker.store, operation)

    def slow(key, *args):
        if "slow" in key:
            gate()
        return ask(key, *args)

    monkeypatch.setattr(invoker.store, operation, slow)
    held = ranges(executor, 1, packed_mapper("slow", b"x" * 100_000, "slow"))
    gate.wait_for(1)
    others = ranges(executor, 3, packed_mapper("other", b"y" * 100_000, "other"))
    assert [future.result(10) is not None for future in others] == [True] * 3
    assert not held[0].done()
    gate.open()
    held[0].result(30)


def test_a_graph_is_put_into_the_store_once_for_ranges_that_start_together(make_executor, monkeypatch):
    """Those that come while it is on its way wait for it."""
    executor, invoker = make_executor()
    put, puts = invoker.store.put, []

    def slow(key, blob):
        puts.append(key)
        time.sleep(0.1)
        return put(key, blob)

    monkeypatch.setattr(invoker.store, "put", slow)
    [future.result(30) for future in ranges(executor, mapper=packed_mapper("run", b"x" * 100_000, "abc"))]
    assert puts == ["mappers/abc"]


def test_the_report_says_when_nothing_can_be_taken_later(make_executor):
    """Where no secret can be kept, a run that fails leaves nothing for later processes; it says why, once."""
    executor, _ = make_executor()
    lost = replace(MAPPER, space=replace(MAPPER.space, not_reused="the disk is full"))
    for mapper in (lost, MAPPER, lost):
        [future.result(30) for future in ranges(executor, mapper=mapper)]
    assert str(executor.report()).count("no later process can take what it computed: the disk is full") == 1
