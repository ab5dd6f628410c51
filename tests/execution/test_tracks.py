"""What becomes of each range is told one by one, whatever happens to it."""

from __future__ import annotations

import threading

import pytest

from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.execution.tracks import RANGES_KEPT, RUNS_KEPT
from dask_root_lambda.protocol.errors import (
    KilledError,
    RunCancelledError,
    ThrottledError,
    UserCodeError,
)

from ..invokers import MAPPER, Gate, packed_mapper


def submit(executor, mapper=MAPPER):
    return [
        executor.submit_call(Call(f"{mapper.run}-{step.index}", step, (mapper,))) for step in mapper.ranges
    ]


def last(executor):
    run = executor.tracks.runs()[-1]
    return run, [run.ranges[index] for index in sorted(run.ranges)]


def test_done_retried_throttled_and_failed(make_executor):
    """Attempts are tries: what AWS refused is counted apart; a failure of user code is the range's state."""
    script = {
        "run-0": [ThrottledError("full"), None],
        "run-1": [KilledError("killed"), None],
        "wrong-0": [UserCodeError("bug")],
    }
    executor, _ = make_executor(script=script)
    for future in submit(executor, packed_mapper("run", n_ranges=2, results=("mass",))):
        future.result(30)
    run, ranges = last(executor)
    for future in submit(executor, packed_mapper("wrong", n_ranges=1)):
        with pytest.raises(UserCodeError):
            future.result(30)
    ranges += last(executor)[1]
    assert run.results == ("mass",)
    assert [(each.state, each.attempts, each.refused) for each in ranges] == [
        ("done", 1, 1),
        ("done", 2, 0),
        ("failed", 1, 0),
    ]
    assert [each.execution for each in ranges] == ["lambda"] * 3
    assert all(each.trying == 0 for each in ranges)


def test_running_and_stopped(make_executor):
    """A range runs until it has ended; one that was stopped has failed. The others of another run go on."""
    release = threading.Event()
    executor, _ = make_executor(script={"run-1": [lambda: release.wait(30)]})
    futures, others = submit(executor), submit(executor, packed_mapper("other"))
    for future in (futures[0], futures[2], *others):
        future.result(30)
    ranges = next(run for run in executor.tracks.runs() if run.account.run == "run").ranges
    assert [ranges[index].state for index in range(3)] == ["done", "running", "done"]
    executor.stop("run")
    with pytest.raises(RunCancelledError):
        futures[1].result(30)
    release.set()
    executor.shutdown()
    ranges = next(run for run in executor.tracks.runs() if run.account.run == "run").ranges
    assert ranges[1].state == "failed"


def test_what_is_kept_is_bounded(make_executor):
    """Of many runs the last are kept, and the ranges of fewer."""
    executor, _ = make_executor()
    for number in range(RUNS_KEPT + 3):
        for future in submit(executor, packed_mapper(f"run{number}")):
            future.result(30)
    runs = executor.tracks.runs()
    assert [run.account.run for run in runs] == [f"run{number}" for number in range(3, RUNS_KEPT + 3)]
    assert [bool(run.ranges) for run in runs] == [False] * (RUNS_KEPT - RANGES_KEPT) + [True] * RANGES_KEPT


def test_many_runs_at_once(make_executor):
    """Ranges of runs that are not among the last any more do not come back, nor do runs that are over."""
    gate, n_runs = Gate(), RUNS_KEPT + 5
    executor, _ = make_executor(
        script={f"run{number}-0": [gate] for number in range(n_runs)}, concurrency=n_runs
    )
    futures = [
        future
        for number in range(n_runs)
        for future in submit(executor, packed_mapper(f"run{number}", n_ranges=1))
    ]
    gate.wait_for(n_runs)
    began = [run.account.run for run in executor.tracks.runs()]
    gate.open()
    assert [future.result(30) for future in futures]
    runs = executor.tracks.runs()
    assert [run.account.run for run in runs] == began
    assert [len(run.ranges) for run in runs] == [0] * (RUNS_KEPT - RANGES_KEPT) + [1] * RANGES_KEPT
    tracks = [track for run in runs for track in run.ranges.values()]
    assert [track.state for track in tracks] == ["done"] * RANGES_KEPT
    assert max(track.seconds for track in tracks) < 120
    submit(executor, packed_mapper("next", n_ranges=1))[0].result(30)
    assert len(executor.tracks._runs) == RUNS_KEPT


def test_the_same_run_again(make_executor):
    """A graph that is computed again is another run, whose ranges begin anew."""
    executor, _ = make_executor()
    for _ in range(2):
        for future in submit(executor):
            future.result(30)
    runs = executor.tracks.runs()
    assert [[each.attempts for each in run.ranges.values()] for run in runs] == [[1, 1, 1], [1, 1, 1]]


def test_plain_calls_have_no_ranges(make_executor):
    """They are a run of their own, without ranges."""
    executor, _ = make_executor()
    assert executor.submit(abs, -1).result(30) == 1
    run, ranges = last(executor)
    assert (run.account.run, ranges) == ("calls", [])
