"""A run that fails stops at once, and one error tells of all its ranges that have failed."""

from __future__ import annotations

import pickle
import time

import pytest

from dask_root_lambda.execution import failures
from dask_root_lambda.protocol.errors import RunCancelledError, ServiceError, UserCodeError
from tests.invokers import Gate, packed_mapper, ranges

FILES = tuple(f"root://host//f{index}.root" for index in range(40))


def failing(gate=None, request_id=None):
    """Make an outcome that raises, once the gate is open."""

    def outcome():
        if gate is not None:
            gate()
        raise UserCodeError("it raised", traceback="line 1", request_id=request_id)

    return outcome


def mapper(n_ranges):
    return packed_mapper("run", n_ranges=n_ranges, files=FILES[:n_ranges])


def test_all_that_failed_is_in_one_error(make_executor):
    """The first in full, of the others file, error and request; each future raises that."""
    gate = Gate()
    script = {f"range-{index}": [failing(gate, f"id-{index}")] for index in range(1, 4)}
    script["range-0"] = [gate, gate]
    executor, _ = make_executor(script=script, concurrency=4)
    futures = ranges(executor, 4, mapper(4))
    gate.wait_for(4)
    gate.open()
    errors = [future.exception(30) for future in futures[1:]]
    assert len(set(map(id, errors))) == 1
    text = str(errors[0])
    assert text.count("line 1") == 1
    assert "2 more of the run's ranges failed:" in text
    for index in range(1, 4):
        assert f"root://host//f{index}.root" in text
        assert f"request id-{index}" in text
    assert futures[0].result(30) == futures[0].result()
    assert str(pickle.loads(pickle.dumps(errors[0]))) == text


def test_nothing_more_is_invoked(make_executor):
    """What waits of the run fails with it, uninvoked; another run goes on."""
    gate = Gate()
    executor, invoker = make_executor(script={"range-0": [failing(gate)]}, concurrency=1)
    futures = ranges(executor, 4, mapper(4))
    gate.wait_for(1)
    other = ranges(executor, 3, packed_mapper("other"))
    gate.open()
    assert all(isinstance(future.exception(30), UserCodeError) for future in futures)
    assert all(future.result(30) for future in other)
    assert [request.task for request in invoker.requests].count("range-3") == 0
    assert len(invoker.requests) == 1 + 3


def test_the_wait_is_bounded(make_executor, monkeypatch):
    """A range that runs on does not hold the error back; its own result counts when it comes."""
    monkeypatch.setattr(failures, "DRAIN_S", 0.2)
    gate = Gate()
    executor, _ = make_executor(script={"range-0": [gate], "range-1": [failing()]}, concurrency=2)
    slow, failed = ranges(executor, 2, mapper(2))
    assert isinstance(failed.exception(10), UserCodeError)
    assert not slow.done()
    gate.open()
    assert slow.result(30)


def test_what_would_be_tried_again_is_not(make_executor):
    """An error that may pass is one of those that are told, once its run has failed."""
    gate = Gate()

    def passing():
        gate()
        while not executor._failures._failing:
            time.sleep(0.01)
        raise ServiceError("500")

    executor, invoker = make_executor(script={"range-0": [passing], "range-1": [failing(gate)]})
    futures = ranges(executor, 2, mapper(2))
    gate.wait_for(2)
    gate.open()
    assert "1 more of the run's ranges failed:\nroot://host//f0.root: ServiceError: 500" in str(
        futures[1].exception(30)
    )
    assert isinstance(futures[0].exception(30), UserCodeError)
    assert len(invoker.requests) == 2


def test_many_failures_are_a_bounded_text(make_executor):
    """Ten are named, the others counted."""
    gate = Gate()
    script = {f"range-{index}": [failing(gate)] for index in range(40)}
    executor, _ = make_executor(script=script, concurrency=40)
    futures = ranges(executor, 40, mapper(40))
    gate.wait_for(40)
    gate.open()
    text = str(futures[0].exception(30))
    assert "39 more of the run" in text
    assert "and 29 more" in text
    assert text.count("it raised") == 11


def test_the_same_run_can_be_tried_again(make_executor):
    """Once its failure is told, its ranges are run as any."""
    executor, _ = make_executor(script={"range-0": [failing()]})
    (future,) = ranges(executor, 1, mapper(3))
    assert isinstance(future.exception(30), UserCodeError)
    assert all(again.result(30) for again in ranges(executor, 3, mapper(3)))


@pytest.mark.parametrize("stop", ["cancel_all", "shutdown"])
def test_a_stop_does_not_wait(make_executor, stop):
    """What has failed is told at once when the rest is stopped."""
    gate = Gate()
    executor, _ = make_executor(script={"range-0": [gate], "range-1": [failing()]}, concurrency=2)
    slow, failed = ranges(executor, 2, mapper(2))
    gate.wait_for(1)
    while not executor._failures._failing:
        time.sleep(0.01)
    if stop == "cancel_all":
        executor.cancel_all()
    else:
        gate.open()
        executor.shutdown()
    assert isinstance(failed.exception(0.5), UserCodeError)
    if stop == "cancel_all":
        assert isinstance(slow.exception(0), RunCancelledError)
    gate.open()
