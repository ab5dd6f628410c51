"""Tasks that run out of memory go to a larger function, and the run learns where to begin."""

from __future__ import annotations

import uuid

import dask
import pytest
import ROOT
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.execution.encoding import Call
from dask_root_lambda.execution.memory import first_tier
from dask_root_lambda.protocol.errors import OutOfMemoryError, ServiceError
from tests.invokers import ScriptedInvoker, packed_mapper, ranges

MEMORY = st.lists(st.integers(128, 10_240), min_size=1, max_size=4, unique=True).map(sorted)
COUNTS = st.dictionaries(st.integers(0, 3), st.integers(0, 1000), max_size=4)


@given(MEMORY, COUNTS, COUNTS)
def test_it_is_one_of_the_tiers(memory_mb, done, failed):
    """And the first, as long as nothing ran out of memory there."""
    tier = first_tier(memory_mb, done, failed)
    assert 0 <= tier < len(memory_mb)
    if not failed.get(0):
        assert tier == 0


@given(MEMORY, COUNTS, COUNTS, st.integers(0, 3))
def test_failures_lead_up_and_successes_down(memory_mb, done, failed, at):
    """One more failure at a tier never lowers where ranges begin, one more success never raises it."""
    tier = first_tier(memory_mb, done, failed)
    assert first_tier(memory_mb, done, {**failed, at: failed.get(at, 0) + 1}) >= tier
    assert first_tier(memory_mb, {**done, at: done.get(at, 0) + 1}, failed) <= tier


@given(st.integers(128, 5000), st.integers(1, 5000), st.integers(0, 500), st.integers(1, 500))
def test_of_two_tiers_it_is_the_cheaper_one(small_mb, more_mb, done, failed):
    """If later ranges fail as often as those before: to fail costs a try at the small one's price."""
    large_mb = small_mb + more_mb
    share = failed / (done + failed)
    cost_of_small, cost_of_large = small_mb + share * large_mb, large_mb
    if abs(cost_of_small - cost_of_large) > 1e-6 * large_mb:
        cheaper = 0 if cost_of_small < cost_of_large else 1
        assert first_tier((small_mb, large_mb), {0: done}, {0: failed}) == cheaper


class Tiered(ScriptedInvoker):
    """Functions of 1,024, 2,048 and 4,096 MB, of which only the last is large enough for a range."""

    tiers = (1024, 2048, 4096)

    def __init__(self, needed_mb=4096, **options):
        super().__init__(**options)
        self.needed_mb = needed_mb

    def invoke(self, request, cancellation):
        if request.operation == "map" and self.tiers[request.tier] < self.needed_mb:
            with self._lock:
                self.requests.append(request)
            raise OutOfMemoryError(f"more than {self.tiers[request.tier]} MB")
        return super().invoke(request, cancellation)


def test_one_moves_up_and_the_later_ones_begin_there(make_executor):
    """The first range pays for all: one try at each tier, then all begin at the top."""
    invoker = Tiered()
    executor, _ = make_executor(concurrency=1, **{"lambda": invoker})
    futures = ranges(executor, 20, packed_mapper("run", n_ranges=20))
    assert all(future.result(30) for future in futures)
    assert [request.tier for request in invoker.requests] == [0, 1, *[2] * 20]
    total = executor.report().total
    assert (total.moved_up, total.retries, total.failures) == (2, 0, 0)
    assert "2 tries ran out of memory" in str(executor.report())


def test_all_at_once_move_up(make_executor):
    """Moving up is bounded by the tiers, and takes nothing from the tries that a run has."""
    invoker = Tiered()
    executor, _ = make_executor(concurrency=64, **{"lambda": invoker})
    futures = ranges(executor, 200, packed_mapper("run", n_ranges=200))
    assert all(future.result(60) for future in futures)
    assert executor.report().total.failures == 0


def test_one_large_range_leaves_the_others_small(make_executor):
    """One that needs more among many that do not is no reason to pay more for all."""
    invoker = Tiered(needed_mb=0, script={"range-3": [OutOfMemoryError("much")]})
    executor, _ = make_executor(concurrency=1, **{"lambda": invoker})
    futures = ranges(executor, 20, packed_mapper("run", n_ranges=20))
    assert all(future.result(30) for future in futures)
    assert sorted(request.tier for request in invoker.requests) == [0] * 20 + [1]


def test_another_error_does_not_move_it(make_executor):
    """What is tried again for another reason stays at its tier."""
    script = {"range-0": [OutOfMemoryError("much"), ServiceError("500"), ServiceError("500")]}
    invoker = Tiered(needed_mb=0, script=script)
    executor, _ = make_executor(concurrency=1, **{"lambda": invoker})
    assert ranges(executor, 1)[0].result(30)
    assert [request.tier for request in invoker.requests] == [0, 1, 1, 1]


def test_at_the_top_it_is_divided_and_then_an_error(make_executor):
    """Its parts begin where it ended; one cluster that is too large is the end."""
    invoker = Tiered(needed_mb=10_000)
    executor, _ = make_executor(concurrency=1, **{"lambda": invoker})
    with pytest.raises(OutOfMemoryError, match="more than 4096 MB"):
        ranges(executor, 1)[0].result(30)
    assert [request.tier for request in invoker.requests[:3]] == [0, 1, 2]
    assert {request.tier for request in invoker.requests[3:]} == {2}
    assert "range-0.0" in [request.task for request in invoker.requests]


def test_a_plain_call_moves_up(make_executor):
    """It cannot be divided; a larger function may do."""
    invoker = Tiered(needed_mb=0, script={"call-0": [OutOfMemoryError("much")]})
    executor, _ = make_executor(**{"lambda": invoker})
    assert executor.submit_call(Call("call-0", abs, [-3])).result(30) == 3
    assert executor.report().total.moved_up == 1


ALLOCATES = """
#include <vector>
int allocate_{name}() {{ std::vector<char> taken(size_t({mb}) << 20, 1); return taken[12345]; }}
"""


def test_real_ranges_of_real_functions(events_file):
    """Ranges that take 500 MB are run out of 640 MB by the emulator, and done by a function of 1,536 MB."""
    name = uuid.uuid4().hex
    ROOT.RDF.Distributed.DistributeCppCode(ALLOCATES.format(name=name, mb=500))
    tiers = {"dask-root-lambda.emulated.memory-tiers-mb": [1536]}
    with (
        dask.config.set(tiers),
        LambdaCluster(execution="emulated", concurrency=1, memory_mb=640, timeout_s=60) as cluster,
        cluster.get_client(),
    ):
        frame = RDataFrame("Events", events_file, npartitions=4)
        total = (
            frame.Define("one", "1")
            .Filter(f"(rdfentry_ % 100 == 0) ? allocate_{name}() == 1 : true")
            .Sum("one")
        )
        assert total.GetValue() == 1000
        report = cluster.report()
    assert report.total.moved_up == 1
    assert report.total.invocations == 5
    assert report.total.peak_memory_mb > 640
