"""What there is of results while they are computed: drawn by LiveVisualize, and given to who iterates."""

from __future__ import annotations

import asyncio
import itertools
import threading

import dask
import pytest
import ROOT
from distributed import Client, LocalCluster

from dask_root_lambda import LambdaPlugin, RDataFrame, partial_results
from dask_root_lambda.protocol.errors import GraphError, UserCodeError
from dask_root_lambda.rdf.pictures import picture

from ..conftest import EVENTS

RANGES = 10
_THROWS = 'throw std::runtime_error("of the user"); return 1.;'
MODEL = ("h", "", 10, 0.0, float(EVENTS))


@pytest.fixture(autouse=True)
def _batch():
    ROOT.gROOT.SetBatch(True)


def contents(histogram):
    return [histogram.GetBinContent(index) for index in range(histogram.GetNcells())]


def oracle(file):
    return ROOT.RDataFrame("Events", file).Histo1D(MODEL, "x").GetValue()


@pytest.fixture
def turns(tmp_path):
    return Turns(tmp_path / "turns")


class Turns:
    """Lets a run go on as it is seen: the third range that starts waits for the first update, and so on."""

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir()
        self.seen = []

    def gated(self, df):
        """Define ``z``, which is ``x``; a wait that is too long fails."""
        return df.Define(
            "z",
            f"""
            if (long(x) % 100 == 0) {{
                int turn = 0;
                while (gSystem->mkdir(TString::Format("{self.folder}/turn-%d", turn)) != 0) ++turn;
                const TString update = TString::Format("{self.folder}/%d", turn - 2);
                for (int i = 0; turn >= 2 && gSystem->AccessPathName(update); ++i) {{
                    if (i > 4000) throw std::runtime_error("an update was not shown");
                    gSystem->Sleep(5);
                }}
            }}
            return x;""",
        )

    def take(self, histogram):
        """Take note of an update."""
        (self.folder / str(len(self.seen))).touch()
        self.seen.append(contents(histogram))

    def end(self):
        """Let everything go on."""
        for update in range(3 * RANGES):
            (self.folder / str(update)).touch()

    def check(self, result):
        """Compare what was seen with the result: ever more of its entries, and in the end all."""
        assert self.seen[-1] == contents(result)
        assert len(self.seen) >= RANGES - 2
        totals = [sum(each) for each in self.seen]
        assert all(less < more for less, more in itertools.pairwise(totals[:-1])), "an update shows more"


class TestLiveVisualize:
    """ROOT's LiveVisualize, with frames of both doors."""

    @pytest.mark.parametrize(("where", "roots_door"), [("local", False), ("emulated", True)])
    def test_results_are_drawn_as_they_grow(self, where, roots_door, events_file, turns, request):
        """Callbacks see more and more entries, and at last what local ROOT computes."""
        with request.getfixturevalue(where).get_client() as client:
            door = {"executor": client} if roots_door else {}
            make = ROOT.RDataFrame if roots_door else RDataFrame
            df = make("Events", events_file, npartitions=RANGES, **door)
            histogram = turns.gated(df).Histo1D(MODEL, "z")
            common = []
            ROOT.RDF.Distributed.LiveVisualize({histogram: turns.take}, lambda h: common.append(contents(h)))
            assert contents(histogram.GetValue()) == contents(oracle(events_file))
        turns.check(histogram.GetValue())
        assert common == turns.seen

    def test_a_failing_callback_ends_the_run(self, local, events_file, turns):
        """What a callback raises reaches the script, and the results can be computed afterwards."""
        df = RDataFrame("Events", events_file, npartitions=RANGES)
        histogram = turns.gated(df).Histo1D(MODEL, "z")

        def fail(_):
            raise ValueError("of the callback")

        ROOT.RDF.Distributed.LiveVisualize([histogram], fail)
        with pytest.raises(ValueError, match="of the callback"):
            histogram.GetValue()
        turns.end()
        ROOT.RDF.Distributed.LiveVisualize([histogram])
        assert contents(histogram.GetValue()) == contents(oracle(events_file))

    def test_callbacks_draw_where_the_result_is_drawn(self, local, events_file):
        """A fit, which draws, leaves the user's pad alone, and belongs to the result afterwards."""
        mine = ROOT.TCanvas("mine", "")
        histogram = RDataFrame("Events", events_file, npartitions=2).Histo1D(MODEL, "x")
        pads = set()

        def fit(histogram):
            pads.add(ROOT.gPad.GetName())
            histogram.Fit("pol0", "Q")

        ROOT.RDF.Distributed.LiveVisualize({histogram: fit})
        assert histogram.GetFunction("pol0").GetParameter(0) == pytest.approx(100)
        assert (len(pads), ROOT.gPad.GetName()) == (1, "mine")
        assert not list(mine.GetListOfPrimitives())

    def test_what_roots_function_refuses(self, local, events_file):
        """Results of several frames and numbers are refused, callbacks that change data are left out."""
        first, second = (RDataFrame("Events", events_file, npartitions=2) for _ in range(2))
        one, other = (df.Histo1D(MODEL, "x") for df in (first, second))
        live_visualize = ROOT.RDF.Distributed.LiveVisualize
        with pytest.raises(ValueError, match="one frame"):
            live_visualize([one, other])
        for given in (one, [one, ROOT.RDataFrame("Events", events_file).Histo1D(MODEL, "x")]):
            with pytest.raises(ValueError, match="takes a list of results"):
                live_visualize(given)
        assert not one.computed
        with pytest.raises(ValueError, match="Allowed operations"):
            live_visualize([first.Count()])
        with pytest.warns(UserWarning, match="Scale would change"):
            live_visualize({one: lambda histogram: histogram.Scale(2)})
        with pytest.warns(UserWarning, match="one argument"):
            live_visualize([one], lambda: None)
        assert contents(one.GetValue()) == contents(oracle(events_file))
        with pytest.warns(UserWarning, match="computed already"):
            live_visualize([one])

    def test_run_graphs(self, local, events_file):
        """Graphs of several frames run, and those that are drawn are drawn by the thread that asks."""
        frames = [RDataFrame("Events", events_file, npartitions=2) for _ in range(3)]
        histograms = [frame.Histo1D(MODEL, "x") for frame in frames]
        threads = set()
        for histogram in histograms[:2]:
            ROOT.RDF.Distributed.LiveVisualize([histogram], lambda _: threads.add(threading.get_ident()))
        assert ROOT.RDF.RunGraphs(histograms) == 3
        assert all(contents(histogram) == contents(oracle(events_file)) for histogram in histograms)
        assert threads == {threading.get_ident()}

    def test_dask_says_what_to_do(self, local, events_file):
        """Dask's own functions tell nothing on the way: they say how the picture is to be had."""
        histogram = RDataFrame("Events", events_file, npartitions=2).Histo1D(MODEL, "x")
        ROOT.RDF.Distributed.LiveVisualize([histogram])
        with pytest.raises(GraphError, match="GetValue"):
            dask.compute(histogram)


class TestPartialResults:
    """The iterator over what there is."""

    @pytest.mark.parametrize("scheduler", ["cluster", "threads", "synchronous"])
    def test_values_grow(self, scheduler, events_file, turns, request):
        """On a cluster and under Dask's own schedulers; the values are nobody else's."""
        if scheduler == "cluster":
            request.getfixturevalue("local")
        config = {} if scheduler == "cluster" else {"scheduler": scheduler, "num_workers": 2}
        with dask.config.set(config):
            df = turns.gated(RDataFrame("Events", events_file, npartitions=RANGES))
            histogram, count, beside = df.Histo1D(MODEL, "z"), df.Count(), df.Sum("z")
            for part in partial_results(histogram, count):
                assert contents(part.values[0]) != contents(oracle(events_file)) or part.share == 1.0
                assert part.values[1] == part.share * EVENTS == sum(contents(part.values[0]))
                turns.take(part.values[0])
                part.values[0].Reset()
            assert (part.complete, beside.computed) == (True, True)
            turns.check(histogram.GetValue())
            assert beside.GetValue() == sum(range(EVENTS))

    @pytest.mark.parametrize("merge_on", ["cluster", "lambda"])
    def test_wherever_merges_run(self, merge_on, emulated, events_file, turns):
        """Also where a merge takes two, and functions merge."""
        with (
            emulated.get_client(),
            dask.config.set({"dask-root-lambda.fan-in": 2, "dask-root-lambda.merge-on": merge_on}),
        ):
            histogram = turns.gated(RDataFrame("Events", events_file, npartitions=RANGES)).Histo1D(MODEL, "z")
            for part in partial_results(histogram):
                turns.take(part.values[0])
            turns.check(histogram.GetValue())

    def test_other_processes(self, events_file, turns):
        """Of a cluster elsewhere, whose workers have the executor, only what is seen comes here."""
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(**options) as cluster, Client(cluster) as client:
            client.register_plugin(LambdaPlugin(execution="local", concurrency=1))
            histogram = turns.gated(RDataFrame("Events", events_file, npartitions=RANGES)).Histo1D(MODEL, "z")
            for part in partial_results(histogram):
                turns.take(part.values[0])
            turns.check(histogram.GetValue())
            # Futures are given back on the client's event loop.
            client.sync(asyncio.sleep, 0)
            assert not client.futures

    def test_who_stops_iterating_stops_the_run(self, local, events_file, turns):
        """Ranges that nobody waits for are not begun, and the results can be computed afterwards."""
        histogram = turns.gated(RDataFrame("Events", events_file, npartitions=RANGES)).Histo1D(MODEL, "z")
        for part in partial_results(histogram):
            turns.take(part.values[0])
            break
        local.report()
        assert not histogram.computed
        for number in range(2 * RANGES):
            (turns.folder / str(number)).touch()
        assert contents(histogram.GetValue()) == contents(oracle(events_file))

    def test_of_results_that_are_computed(self, local, events_file):
        """They come once, complete."""
        count = RDataFrame("Events", events_file, npartitions=2).Count()
        count.GetValue()
        assert [(part.values, part.share) for part in partial_results(count)] == [((EVENTS,), 1.0)]

    def test_every_kind_of_result(self, local, events_file):
        """Numbers, arrays, reports, profiles, graphs and variations: the last values are the results."""
        df = RDataFrame("Events", events_file, npartitions=4).Filter("x % 2 == 0", "even")
        graph, profile = df.Graph("x", "pt"), df.Profile1D(("p", "", 10, 0, 1000), "x", "pt")
        varied = df.Vary("x", "ROOT::RVecI{x - 1, x + 1}", ["down", "up"]).Sum("x")
        variations = ROOT.RDF.Experimental.VariationsFor(varied)
        *_, last = partial_results(
            graph, profile, variations, df.Report(), df.AsNumpy(["x"], lazy=True), df.Mean("x")
        )
        points, profile_values, sums, report, arrays, mean = last.values
        assert (points.GetN(), profile_values.GetEntries()) == (EVENTS // 2, EVENTS // 2)
        assert {name: sums[name] for name in sums} == {"nominal": 249500, "x:down": 249000, "x:up": 250000}
        assert report["even"].GetPass() == EVENTS // 2
        assert arrays["x"].tolist() == list(range(0, EVENTS, 2))
        assert mean == 499.0

    def test_a_failing_range(self, local, events_file):
        """The error is the one that touching a result raises."""
        total = RDataFrame("Events", events_file, npartitions=4).Define("y", _THROWS).Sum("y")
        with pytest.raises(UserCodeError, match="of the user"):
            list(partial_results(total))

    def test_mistakes(self, local, events_file, tmp_path):
        """Nothing, several frames and Snapshots are refused, where the function is called."""
        first, second = (RDataFrame("Events", events_file) for _ in range(2))
        with pytest.raises(GraphError, match="partial_results takes results"):
            partial_results()
        with pytest.raises(GraphError, match="one frame"):
            partial_results(first.Count(), second.Count())
        options = ROOT.RDF.RSnapshotOptions()
        options.fLazy = True
        snapshot = first.Snapshot("Events", str(tmp_path / "out.root"), ["x"], options)
        with pytest.raises(GraphError, match="Snapshot"):
            partial_results(snapshot)


class TestPicture:
    """Pictures of what there is."""

    @pytest.mark.parametrize("kind", ["svg", "png"])
    def test_a_picture_says_how_much_is_in_it(self, kind, events_file):
        """The share of entries is written beside; the user's canvas stays the current one."""
        canvas = ROOT.TCanvas("mine", "")
        histogram = oracle(events_file)
        whole, part = picture(histogram, kind=kind), picture(histogram, share=0.377, kind=kind)
        assert whole.startswith({"svg": b"<?xml", "png": b"\x89PNG"}[kind])
        assert whole != part
        if kind == "svg":
            assert b"37 % of the entries" in part
        assert ROOT.gPad.GetName() == canvas.GetName()

    def test_dimensions(self):
        """Histograms of one and two dimensions, profiles and graphs."""
        for value in (
            ROOT.TH1D("a", "", 3, 0, 3),
            ROOT.TH2D("b", "", 3, 0, 3, 3, 0, 3),
            ROOT.TH3D("e", "", 3, 0, 3, 3, 0, 3, 3, 0, 3),
            ROOT.TProfile("c", "", 3, 0, 3),
            ROOT.TProfile2D("d", "", 3, 0, 3, 3, 0, 3),
            ROOT.TGraph(3),
        ):
            assert picture(value, share=0.5)
