"""Runs take turns for the slots, whatever they wait for."""

from __future__ import annotations

from collections import Counter, deque

import dask
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda import RDataFrame
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.execution.jobs import Job
from dask_root_lambda.execution.queue import FairQueue
from tests.invokers import Gate, packed_mapper, ranges

MAPPERS = [packed_mapper(f"run-{number}", n_ranges=1) for number in range(4)]


def job(run, priority=0):
    (step,) = MAPPERS[run].ranges
    return Job(Call("task", step, [MAPPERS[run]], priority=priority), lambda _: None)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=60))
def test_backlogged_runs_get_the_same(put):
    """As long as they have jobs that wait, runs of one priority are served in turn; a higher one is first."""
    queue, left = FairQueue(), Counter(put)
    for run, priority in put:
        queue.put(job(run, priority))
    served = Counter()
    while queue:
        taken = queue.take().call
        own = int(taken.run[-1]), taken.priority
        assert own[1] == max(priority for (_, priority), n in left.items() if n)
        served[own] += 1
        left[own] -= 1
        waiting = [each for each, n in left.items() if n and each[1] == own[1]]
        shares = [served[each] for each in waiting]
        assert not shares or max(shares) - min(shares) <= 1
    assert served == Counter(put)


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "first", "take", "discard"]), st.integers(0, 3)), max_size=80
)


@given(OPERATIONS)
def test_nothing_is_lost_and_runs_keep_their_order(operations):
    """Whatever is put, taken and taken out: each run is a queue of its own, and the length is their sum."""
    queue, model = FairQueue(), {run: deque() for run in range(4)}
    for operation, run in operations:
        own = model[run]
        if operation in ("put", "first"):
            new = job(run)
            (queue.put if operation == "put" else queue.put_first)(new)
            (own.append if operation == "put" else own.appendleft)(new)
        elif operation == "take" and len(queue):
            taken = queue.take()
            assert model[int(taken.call.run[-1])].popleft() is taken
        elif operation == "discard" and own:
            middle = own[len(own) // 2]
            own.remove(middle)
            queue.discard(middle)
            queue.discard(middle)
            assert middle not in queue
        assert len(queue) == sum(map(len, model.values()))
        assert set(queue) == {each for jobs in model.values() for each in jobs}


def test_a_run_that_comes_later_does_not_wait_for_all_before(make_executor):
    """Of two runs, the second is served from its beginning on, though the first has a hundred ranges."""
    gate = Gate()
    executor, invoker = make_executor(script={"busy": [gate]}, concurrency=1)
    executor.submit_call(Call("busy", abs, [1]))
    gate.wait_for(1)
    large, small = packed_mapper("large", n_ranges=100), packed_mapper("small", n_ranges=5)
    futures = [*ranges(executor, 100, large), *ranges(executor, 5, small)]
    gate.open()
    for future in futures:
        future.result(30)
    order = [request.result_key.split("/")[1] for request in invoker.requests[1:]]
    assert order[:10] == ["large", "small"] * 5


def test_many_frames_in_one_compute(emulated, events_file):
    """All frames of one compute have begun before one is half done, with two slots for 20 ranges."""
    frames = [RDataFrame("Events", events_file, npartitions=5).Define("y", f"x + {n}") for n in range(4)]
    with emulated.get_client():
        sums = dask.compute(*(frame.Sum("y") for frame in frames))
    assert list(sums) == [sum(range(1000)) + 1000 * n for n in range(4)]
    runs = emulated._executor.tracks.runs()[-4:]
    began = [sorted(track.began_s for track in run.ranges.values()) for run in runs]
    assert [len(each) for each in began] == [5] * 4
    assert max(first for first, *_ in began) < min(each[3] for each in began)
