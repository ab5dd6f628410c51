"""What is computed together, what is left out, and what is here already."""

from __future__ import annotations

import gc
import threading

import dask
import pytest
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

from dask_root_lambda import RDataFrame, destination
from dask_root_lambda.plan import unfinished
from dask_root_lambda.protocol.errors import CrashError, GraphError, UserCodeError
from dask_root_lambda.rdf import packing
from dask_root_lambda.rdf.bookings import Failure, Lowering, together
from tests.conftest import ROOT

SUM = 499500.0
NODES = st.integers(1, 8)
FAILURES = st.lists(st.builds(Failure, st.frozensets(NODES, min_size=1), st.booleans()), max_size=4)


class TestTogether:
    """The choice of what is computed in one pass, as a pure function."""

    @given(pending=st.frozensets(NODES), asked=NODES)
    def test_without_failures_all_that_is_pending(self, pending, asked):
        """One pass serves every result that is booked and not computed yet."""
        assert together(asked, pending, []) == pending | {asked}

    @given(pending=st.frozensets(NODES), asked=NODES, failures=FAILURES)
    def test_what_is_asked_for_is_in_it_and_nothing_that_is_not_pending(self, pending, asked, failures):
        """Whatever failed before."""
        pending = pending.union(*(failure.nodes for failure in failures))
        group = together(asked, pending, failures)
        assert asked in group
        assert group <= pending | {asked}

    @given(pending=st.frozensets(NODES), asked=NODES, failures=FAILURES)
    def test_what_failed_by_the_users_code_is_computed_alone(self, pending, asked, failures):
        """No other result's pass has one of it, and its own has no other."""
        own = [failure for failure in failures if asked in failure.nodes]
        group = together(asked, pending, failures)
        if any(failure.of_user for failure in own):
            assert group == {asked}
        elif not own:
            assert not any(group & failure.nodes for failure in failures)

    @given(pending=st.frozensets(NODES), nodes=st.frozensets(NODES, min_size=1))
    def test_what_an_environment_did_not_survive_is_tried_again_as_it_was(self, pending, nodes):
        """The same results are the same run, of which some ranges may be done."""
        assert together(min(nodes), pending | nodes, [Failure(nodes, of_user=False)]) == nodes


BAD = 'if (x == 700) throw std::runtime_error("of the user"); return x;'
SCHEDULERS = ("cluster", "synchronous", "threads")


@pytest.fixture(params=["our door", "ROOT's door"])
def frame(request, local, events_file):
    """A frame of either door, on a cluster in this process."""
    if request.param == "our door":
        return RDataFrame("Events", events_file, npartitions=4)
    return ROOT.RDataFrame("Events", events_file, executor=Client.current(), npartitions=4)


def bad(frame):
    return frame.Define("bad", BAD).Sum("bad")


class TestAFailedResult:
    """It fails alone: no later computation of the frame sees it."""

    def test_another_result_of_the_frame(self, frame):
        """What is booked later is computed, although the one that failed is held; that fails again."""
        failed = bad(frame)
        for _ in range(2):
            with pytest.raises(UserCodeError, match="of the user"):
                failed.GetValue()
            assert frame.Count().GetValue() == 1000

    def test_corrected_under_its_name(self, frame):
        """The result in its place is computed, as a user does who edits a cell and runs it again."""
        total = bad(frame)
        with pytest.raises(UserCodeError):
            total.GetValue()
        total = frame.Define("bad", "x").Sum("bad")
        assert total.GetValue() == SUM

    def test_dropped(self, frame, local):
        """When it is dropped, those beside it are computed, in one pass."""
        failed, count, total = bad(frame), frame.Count(), frame.Sum("x")
        with pytest.raises(UserCodeError):
            count.GetValue()
        del failed
        gc.collect()
        before = local.report().total.ranges
        assert dask.compute(count, total) == (1000, SUM)
        assert local.report().total.ranges == before + 4

    def test_told_again_after_it_is_dropped(self, frame, local, monkeypatch):
        """Several threads tell of one failure: one that comes late is nothing new."""
        told, tell = [], Lowering.failed

        def failed_of(*arguments):
            told.append(arguments)
            tell(*arguments)

        monkeypatch.setattr(Lowering, "failed", failed_of)
        failed, count, total = bad(frame), frame.Count(), frame.Sum("x")
        with pytest.raises(UserCodeError):
            count.GetValue()
        del failed
        gc.collect()
        tell(*told[-1])
        before = local.report().total.ranges
        assert dask.compute(count, total) == (1000, SUM)
        assert local.report().total.ranges == before + 4

    def test_beside_others(self, frame):
        """Those that were computed together with it are right, each alone, also while it is held."""
        failed, count, total = bad(frame), frame.Count(), frame.Sum("x")
        with pytest.raises(UserCodeError):
            dask.compute(failed, count, total)
        assert (count.GetValue(), total.GetValue()) == (1000, SUM)
        with pytest.raises(UserCodeError):
            dask.compute(failed, count, total)
        assert dask.compute(count, frame.Max("x")) == (1000, 999)

    @pytest.mark.parametrize("scheduler", SCHEDULERS[1:])
    def test_under_other_schedulers(self, frame, scheduler):
        """Whatever computes it in this process."""
        failed = bad(frame)
        with pytest.raises(UserCodeError):
            dask.compute(failed, scheduler=scheduler)
        assert dask.compute(frame.Count(), scheduler=scheduler) == (1000,)

    def test_one_that_cannot_be_sent(self, frame):
        """It is refused when it is booked, at the user's line."""
        pytest.importorskip("numba")
        lock = threading.Lock()
        with pytest.raises(GraphError, match="Filter: the function <lambda> cannot be sent"):
            frame.Filter(lambda x: x > 0 and lock.locked(), ["x"])
        assert frame.Count().GetValue() == 1000

    def test_one_that_ends_the_environment(self, emulated, events_file):
        """A crash in an environment is no reason for other results to fail."""
        with emulated.get_client():
            frame = RDataFrame("Events", events_file, npartitions=2)
            code = "volatile int *nowhere = nullptr; if (x == 700) *nowhere = 1; return x;"
            crash, count = frame.Define("bad", code).Sum("bad"), frame.Count()
            with pytest.raises(CrashError):
                count.GetValue()
            assert count.GetValue() == 1000
            assert frame.Sum("x").GetValue() == SUM
            with pytest.raises(CrashError):
                crash.GetValue()

    def test_run_graphs_raises(self, frame, local, events_file):
        """ROOT's RunGraphs, which says nothing of what fails, raises with our results."""
        other = RDataFrame("Events", events_file, npartitions=2).Count()
        with pytest.raises(UserCodeError, match="of the user"):
            ROOT.RDF.RunGraphs([bad(frame), other])
        assert other.GetValue() == 1000


def compute(results, scheduler):
    options = {} if scheduler == "cluster" else {"scheduler": scheduler}
    return dask.compute(*results, **options)


WAYS = {
    **{
        f"dask.compute, {scheduler}": lambda results, scheduler=scheduler: compute(results, scheduler)
        for scheduler in SCHEDULERS
    },
    "compute of one": lambda results: [results[0].compute()],
    "client.compute": lambda results: Client.current().gather(Client.current().compute(list(results))),
    "client.compute of one": lambda results: [Client.current().compute(results[0]).result(60)],
    "scheduler=client": lambda results: dask.compute(*results, scheduler=Client.current()),
    "dask.persist": lambda results: [each.GetValue() for each in dask.persist(*results)],
    "client.persist": lambda results: [each.GetValue() for each in Client.current().persist(list(results))],
    "dask.delayed": lambda results: [dask.delayed(lambda value: value)(results[0]).compute()],
    "touched": lambda results: [results[0].GetValue()],
}


class TestAComputedResult:
    """Whichever way it was computed in this process, its value is here, and so are those of its pass."""

    @pytest.mark.parametrize("way", WAYS)
    def test_touching_it_invokes_nothing(self, frame, local, way):
        """Its value, and that of what was computed with it, is the one that was computed."""
        results = frame.Sum("x"), frame.Histo1D(("h", "", 4, 0, 1000), "x")
        assert WAYS[way](results)[0] == SUM
        before = local.report().total.done
        assert all(result.computed for result in results)
        assert results[0].GetValue() == SUM
        assert results[1].GetEntries() == 1000
        assert dask.compute(*results)[0] == SUM
        assert local.report().total.done == before

    def test_what_the_user_changes_is_his_copy(self, frame):
        """A histogram that dask.compute gave is another object than the result's own."""
        result = frame.Histo1D(("h", "", 4, 0, 1000), "x")
        (histogram,) = dask.compute(result)
        histogram.Reset()
        assert result.GetEntries() == 1000

    def test_histograms_are_instances_of_their_class(self, local, events_file):
        """Values that are made in several threads have ROOT's one class, and nothing is said of pickling."""
        frame = RDataFrame("Events", events_file, npartitions=2)
        results = [frame.Profile2D((f"p{i}", "", 4, 0, 1000, 4, 0, 50), "x", "pt", "x") for i in range(20)]
        values = dask.compute(*results)
        assert {type(value) for value in values} == {ROOT.TProfile2D}

    def test_variations_of_it_can_be_booked(self, frame):
        """As in local ROOT, also by ROOT's own name."""
        total = frame.Define("v", "double(x)").Vary("v", "ROOT::RVecD{v - 1, v + 1}", ["down", "up"]).Sum("v")
        assert dask.compute(total) == (SUM,)
        for sums in (ROOT.RDF.Experimental.VariationsFor(total), ROOT.RDF.Distributed.VariationsFor(total)):
            assert (sums["nominal"], sums["v:up"]) == (SUM, SUM + 1000)

    def test_results_of_many_frames(self, local, events_file):
        """Frames that are the same share a run; each of their results is computed."""
        frames = [RDataFrame("Events", events_file, npartitions=2) for _ in range(3)]
        sums = [frame.Sum("x") for frame in frames]
        assert dask.compute(*sums) == (SUM,) * 3
        assert all(each.computed for each in sums)
        assert local.report().total.ranges == 2


def test_a_run_that_failed_is_tried_again_under_other_keys(frame, local):
    """An error on its way to the scheduler belongs to the keys of before; the run is the same."""
    failed = bad(frame)
    before = set(dict(failed.__dask_graph__()))
    with pytest.raises(UserCodeError) as first:
        failed.compute()
    assert not before & set(dict(failed.__dask_graph__()))
    with pytest.raises(UserCodeError) as second:
        failed.compute()
    assert first.value.task == second.value.task


class TestVariationsOfWhatNothingVaries:
    """The map holds the nominal result, as in local ROOT; ROOT's own distributed mode ends the process."""

    @pytest.mark.parametrize("varied", [False, True])
    @pytest.mark.parametrize("n_ranges", [1, 5])
    @pytest.mark.parametrize("way", ["touched", "computed", "persisted"])
    def test_it_is_nominal(self, local, events_file, varied, n_ranges, way):
        """Without any Vary, and with one of another column; beside the nominal result, and merged."""
        frame = RDataFrame("Events", events_file, npartitions=n_ranges).Define("y", "2. * x")
        if varied:
            frame = frame.Vary("y", "ROOT::RVecD{y - 1, y + 1}", ["down", "up"])
        total, histogram = frame.Sum("x"), frame.Histo1D(("h", "", 10, 0, 1000), "x")
        sums, histograms = map(ROOT.RDF.Experimental.VariationsFor, (total, histogram))
        if way == "computed":
            sums, histograms = dask.compute(sums, histograms)
        elif way == "persisted":
            sums, histograms = dask.persist(sums, histograms)
        assert list(sums.GetKeys()) == list(histograms.GetKeys()) == ["nominal"]
        assert sums["nominal"] == total.GetValue() == 499500.0
        assert histograms["nominal"].GetEntries() == histogram.GetEntries() == 1000

    def test_beside_variations(self, local, events_file):
        """One frame, one result that is varied and one that is not."""
        frame = RDataFrame("Events", events_file, npartitions=3).Define("y", "2. * x")
        frame = frame.Vary("y", "ROOT::RVecD{y - 1, y + 1}", ["down", "up"])
        x, y = map(ROOT.RDF.Experimental.VariationsFor, (frame.Sum("x"), frame.Sum("y")))
        assert dict(x.GetValue()) == {"nominal": 499500.0}
        assert dict(y.GetValue()) == {"nominal": 999000.0, "y:down": 998000.0, "y:up": 1000000.0}


def test_the_next_try_is_divided_as_the_first(events_file, monkeypatch):
    """Until a run is done, what runs at once does not change its ranges: partial results fit the next try."""
    frame = RDataFrame("Events", events_file)
    total = frame.Filter("x > 17").Sum("x")

    def divided(slots):
        monkeypatch.setattr(destination, "slots", lambda _: slots)
        return packing.pack(frame._headnode, [total.node], None).mapper

    first = divided(3)
    assert divided(5).division == first.division
    unfinished.end(first.space)
    assert [len(mapper.division) for mapper in (first, divided(5))] == [3, 5]
