"""Results of an RDataFrame are Dask collections, under any scheduler, and touch like ROOT's."""

from __future__ import annotations

import functools
import os
import pickle
import re
from collections import Counter

import dask
import pytest
from dask.base import is_dask_collection, tokenize
from distributed import Client, LocalCluster

from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.protocol.errors import ConfigurationError, GraphError, InputError
from tests.conftest import ROOT, write_events

SUM = 499500.0


def book(frame):
    passed = frame.Filter("x >= 500")
    return passed.Histo1D(("h", "", 10, 0, 1000), "x"), passed.Count(), frame.Sum("x")


def check(values):
    histogram, count, total = values
    assert [histogram.GetBinContent(index) for index in range(1, 11)] == [0.0] * 5 + [100.0] * 5
    assert (count, total) == (500, SUM)


@pytest.fixture
def frame(events_file):
    return RDataFrame("Events", events_file, npartitions=4)


class TestSchedulers:
    """The same collections under each of Dask's schedulers."""

    @pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
    def test_local_schedulers(self, frame, scheduler):
        """Threads and the synchronous scheduler run ranges in this process."""
        check(dask.compute(*book(frame), scheduler=scheduler))

    def test_a_lambda_cluster(self, frame, local):
        """Under a LambdaCluster's client, ranges go through its executor."""
        check(dask.compute(*book(frame)))
        assert local.report().total.ranges == 4

    def test_environments(self, frame, emulated):
        """In environments of an emulated Lambda the values are the same, and something is billed."""
        with emulated.get_client():
            check(dask.compute(*book(frame)))
        assert emulated.report().total.billed_s > 0

    def test_some_other_client(self, frame):
        """Workers without the executor run the ranges themselves."""
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            check(dask.compute(*book(frame)))
            check(future.result() for future in client.compute(list(book(frame))))


class TestTwoClients:
    """Each client's computation runs on its own cluster, whichever is Dask's current one."""

    @pytest.fixture(params=["ours is current", "the other is current"])
    def clients(self, request):
        """Ours, the other, and what tells how many ranges our cluster ran."""
        with (
            LambdaCluster(execution="local", concurrency=2) as ours,
            LocalCluster(n_workers=1, processes=False, dashboard_address=None) as others,
        ):
            last = ours if request.param == "ours is current" else others
            with Client(others if last is ours else ours) as first, Client(last) as second:
                pair = (second, first) if last is ours else (first, second)
                yield *pair, lambda: ours.report().total.ranges

    @pytest.mark.parametrize(
        "compute",
        [
            lambda count, client: client.compute(count).result(30),
            lambda count, client: client.compute(client.persist(count)).result(30),
            lambda count, client: count.compute(scheduler=client),
            lambda count, client: dask.compute([count], scheduler=client.get)[0][0],
        ],
        ids=["client.compute", "client.persist", "scheduler=client", "scheduler=client.get"],
    )
    def test_ranges_run_where_they_are_computed(self, frame, clients, compute):
        """On the workers of other clusters, and on our executor."""
        ours, other, ranges = clients
        assert compute(frame.Count(), other) == 1000
        assert ranges() == 0
        assert compute(frame.Count(), ours) == 1000
        assert ranges() == 4

    def test_a_graph_that_exists_goes_to_either(self, frame, clients):
        """A graph that was made for one cluster can be sent to the other."""
        ours, other, ranges = clients
        count = frame.Count()
        graph, keys = count.dask, count.__dask_keys__()
        (blobs,) = other.get(graph, keys)
        assert ranges() == 0
        assert ours.get(graph, keys) == [blobs]
        assert ranges() == 4

    def test_without_a_cluster(self, frame, clients):
        """Dask's local schedulers use neither."""
        _, _, ranges = clients
        assert frame.Count().compute(scheduler="threads") == 1000
        assert ranges() == 0

    def test_local_files_of_a_cluster_in_aws(self, frame, local, monkeypatch):
        """What another scheduler computes is not refused for what the current cluster cannot reach."""
        monkeypatch.setattr(local._executor._invokers["local"], "remote", True, raising=False)
        count = frame.Count()
        with pytest.raises(InputError, match="cannot read files of this machine"):
            count.compute()
        assert count.compute(scheduler="synchronous") == 1000


class TestCollections:
    """What Dask offers for any collection works for these."""

    def test_they_are_collections(self, frame):
        """Dask knows results as collections, and frames not."""
        assert all(map(is_dask_collection, book(frame)))
        assert not is_dask_collection(frame)

    def test_compute_of_one(self, frame, local):
        """``.compute()`` gives the value."""
        assert frame.Count().compute() == 1000

    def test_persist(self, frame, local):
        """A persisted result is computed once, and can be computed and touched."""
        count, total = dask.persist(frame.Count(), frame.Sum("x"))
        assert dask.compute(count, total) == (1000, SUM)
        assert count.GetValue() == 1000
        assert local.report().total.ranges == 4

    def test_client_compute_gives_futures(self, frame, local):
        """``client.compute`` returns futures of the values."""
        futures = Client.current().compute(list(book(frame)))
        check(future.result() for future in futures)

    def test_they_mix_with_other_collections(self, frame, local):
        """A delayed function can take results as arguments."""
        half = dask.delayed(lambda count, total: total / count)(frame.Count(), frame.Sum("x"))
        assert half.compute() == 499.5
        # Each argument has a graph of its own, of one run: what the one has computed, the other may take.
        assert 4 <= local.report().total.invocations <= 8

    def test_nested_in_containers(self, frame, local):
        """dask.compute finds results in lists and dictionaries."""
        ((found,),) = dask.compute([{"n": frame.Count()}]) and ([{"n": 1000}],)
        assert found == {"n": 1000}
        (values,) = dask.compute({"n": frame.Count(), "more": [frame.Sum("x")]})
        assert values == {"n": 1000, "more": [SUM]}

    def test_visualize(self, frame, tmp_path, monkeypatch):
        """``.visualize()`` draws the graph: ranges, merges and the check."""
        # In the place of Graphviz' program, which not every machine has: what it is given to draw.
        dot = tmp_path / "bin" / "dot"
        dot.parent.mkdir()
        dot.write_text("#!/bin/sh\nexec cat\n")
        dot.chmod(0o755)
        monkeypatch.setenv("PATH", str(dot.parent), prepend=os.pathsep)
        histogram, count, _ = booked = book(frame)
        path = tmp_path / "graph.dot"
        for draw in (count.visualize, functools.partial(dask.visualize, *booked)):
            draw(filename=str(path), engine="graphviz")
            drawn = Counter(re.findall(r"label=\"?rdf-(\w+)\"? shape=circle", path.read_text()))
            assert drawn == {"range": 4, "merge": 1, "finish": 1}
        assert not histogram.computed

    def test_tokens_follow_content(self, events_file, tmp_path):
        """The same graph on the same content has the same token; another graph or content has another."""
        same = [RDataFrame("Events", events_file, npartitions=4).Sum("x") for _ in range(2)]
        other = RDataFrame("Events", events_file, npartitions=4).Mean("x")
        elsewhere = RDataFrame("Events", write_events(tmp_path / "b.root"), npartitions=4).Sum("x")
        tokens = [tokenize(result) for result in (*same, other, elsewhere)]
        assert tokens[0] == tokens[1]
        assert len(set(tokens)) == 3


class TestOnePass:
    """One event loop serves every result of a frame; each frame has its own."""

    def test_one_event_loop_for_all_results(self, frame, local):
        """Each range runs once for all results that are computed together."""
        check(dask.compute(*book(frame)))
        total = local.report().total
        assert (total.invocations, total.entries) == (4, 1000)

    def test_frames_side_by_side(self, events_file, tmp_path, local):
        """Data and simulation, with other columns and types, are computed in one call."""
        simulation = write_events(
            tmp_path / "mc.root", value="double(rdfentry_) * 0.5", entries=600, tree="mc"
        )
        data, other = (
            RDataFrame("Events", events_file, npartitions=2),
            RDataFrame("mc", simulation, npartitions=3),
        )
        assert dask.compute(data.Sum("x"), other.Sum("x"), other.Count()) == (SUM, 0.5 * 599 * 300, 600)
        assert local.report().total.ranges == 5

    def test_touching_computes_everything_that_is_booked_once(self, frame, local):
        """Touching one result computes all that are booked and not computed yet, in one pass, once."""
        histogram, count, total = book(frame)
        assert histogram.GetEntries() == 500
        assert (count.GetValue(), total.GetValue()) == (500, SUM)
        assert local.report().total.ranges == 4
        assert frame.Count().GetValue() == 1000
        assert local.report().total.ranges == 8

    @pytest.mark.parametrize("scheduler", [None, "synchronous"])
    def test_a_value_that_is_here_is_not_computed_again(self, frame, local, scheduler):
        """Dask takes results that were touched before as any others, alone and beside new ones."""
        count = frame.Count()
        assert count.GetValue() == 1000
        done = local.report().total.done
        assert dask.compute(count, scheduler=scheduler) == (1000,)
        assert local.report().total.done == done
        assert dask.compute(count, frame.Sum("x"), scheduler=scheduler) == (1000, SUM)
        (persisted,) = dask.persist(count, scheduler=scheduler)
        assert persisted.GetValue() == 1000
        assert Client.current().compute(count).result(20) == 1000

    def test_a_dropped_result_is_not_computed(self, frame, local):
        """What the user no longer holds is left out of the graph."""
        frame.Define("never", 'throw std::runtime_error("it ran"); return 1.;').Sum("never")
        assert frame.Count().GetValue() == 1000


class TestOperations:
    """Actions and transformations of DistRDF."""

    def test_scalar_and_object_actions(self, frame, local):
        """Numbers, statistics, profiles, graphs and reports come out as in ROOT."""
        results = (
            frame.Mean("x"), frame.StdDev("x"), frame.Min("x"), frame.Max("x"), frame.Stats("x"),
            frame.Profile1D(("p", "", 10, 0, 1000), "x", "pt"), frame.Graph("x", "pt"),
            frame.Histo2D(("h", "", 5, 0, 1000, 5, 0, 50), "x", "pt"), frame.Filter("x > 9", "cut").Report(),
        )  # fmt: skip
        mean, deviation, least, most, stats, profile, graph, histogram, report = dask.compute(*results)
        assert (mean, least, most) == (499.5, 0.0, 999.0)
        assert deviation == pytest.approx(288.8194, rel=1e-5)
        assert stats.GetN() == 1000
        assert profile.GetEntries() == histogram.GetEntries() == graph.GetN() == 1000
        assert report.At("cut").GetPass() == 990

    def test_a_histogram_can_be_plotted_by_others(self, frame, local):
        """A result has ROOT's interface to plotting libraries (UHI), which computes it, once."""
        histogram = frame.Histo1D(("h", "", 4, 0, 1000), "x")
        assert histogram.values().tolist() == histogram.counts().tolist() == [250.0] * 4
        assert histogram.variances().tolist() == [250.0] * 4
        assert (len(histogram.axes), len(histogram.axes[0]), str(histogram.kind)) == (1, 4, "Kind.COUNT")
        assert local.report().total.ranges == 4

    @pytest.mark.parametrize("name", ["_repr_mimebundle_", "shape", "dtype", "name", "__array__", "to_html"])
    def test_looking_for_other_names_computes_nothing(self, frame, local, name):
        """What Jupyter, dask and completion look for on any object is not there, and is not computed."""
        histogram = frame.Histo1D(("h", "", 4, 0, 1000), "x")
        assert not hasattr(histogram, name)
        assert dir(histogram)
        assert not histogram.computed
        assert local.report().total.invocations == 0

    def test_variations(self, frame, local):
        """Systematic variations are booked as in ROOT, and their names looked up."""
        nominal = frame.Vary("pt", "ROOT::RVecF{pt * 0.5f, pt * 2.f}", ["down", "up"]).Sum("pt")
        (sums,) = dask.compute(ROOT.RDF.Distributed.VariationsFor(nominal))
        assert sorted(sums.GetKeys()) == ["nominal", "pt:down", "pt:up"]
        assert [sums[name] for name in ("nominal", "pt:down", "pt:up")] == [24500.0, 12250.0, 49000.0]
        with pytest.raises(KeyError, match="no variation 'sideways'"):
            sums["sideways"]

    def test_as_numpy_runs_at_once_unless_lazy(self, frame, local):
        """AsNumpy gives arrays, in the order of the entries; lazy, it is a result like others."""
        assert frame.AsNumpy(["x"])["x"].tolist() == list(range(1000))
        (arrays,) = dask.compute(frame.Filter("x < 3").AsNumpy(["x"], lazy=True))
        assert arrays["x"].tolist() == [0, 1, 2]

    def test_snapshot_gives_a_frame_over_what_was_written(self, frame, local, tmp_path, monkeypatch):
        """Snapshot writes a file per range, at the path as the user meant it, and goes on from there."""
        monkeypatch.chdir(tmp_path)
        written = frame.Filter("x % 2 == 0").Snapshot("Even", "even.root", ["x"])
        assert written.Count().GetValue() == 500
        assert len(list(tmp_path.glob("even_*.root"))) == 4

    def test_a_snapshot_by_keywords(self, frame, local, tmp_path):
        """ROOT's names of the arguments are understood, and others are refused at the user's line."""
        options = ROOT.RDF.RSnapshotOptions()
        options.fLazy = True
        lazy = frame.Snapshot("Few", filename=str(tmp_path / "few.root"), options=options)
        assert lazy.GetValue().Count().GetValue() == 1000
        written = frame.Snapshot(treename="x", filename=str(tmp_path / "x.root"), columnList=["x"])
        assert list(map(str, written.GetColumnNames())) == ["x"]
        for wrong in ({"filename": "a"}, {"treename": "t", "filename": "a", "columns": ["x"]}):
            with pytest.raises(GraphError, match="Snapshot takes"):
                frame.Snapshot(**wrong)

    def test_a_snapshot_from_environments(self, frame, emulated, tmp_path):
        """Environments on this machine write where the user can read."""
        with emulated.get_client():
            written = frame.Filter("x < 10").Snapshot("Few", str(tmp_path / "few.root"), ["x"])
            assert written.Sum("x").GetValue() == 45.0

    def test_a_frame_travels_as_its_arguments(self, frame, local):
        """A frame can be pickled: what a worker's Snapshot returns reaches the user."""
        assert pickle.loads(pickle.dumps(frame)).Count().GetValue() == 1000

    def test_columns_can_be_asked_for(self, frame):
        """Names and types are known without running anything."""
        assert sorted(map(str, frame.GetColumnNames())) == ["pt", "x"]
        assert frame.GetColumnType("x") == "Int_t"
        assert "Histo1D" in dir(frame)

    def test_python_functions_are_compiled(self, frame, local):
        """A Python function in Define and Filter runs where the range runs."""
        pytest.importorskip("numba")
        doubled = frame.Define("y", lambda x: 2.0 * x, ["x"]).Filter(lambda y: y > 1000.0, ["y"])
        assert doubled.Count().GetValue() == 499

    def test_python_functions_in_environments(self, frame, emulated):
        """And in an environment, where numba is part of the image."""
        pytest.importorskip("numba")
        with emulated.get_client():
            assert frame.Define("y", lambda x: 2.0 * x, ["x"]).Sum("y").GetValue() == 2 * SUM

    def test_without_numba_the_error_says_what_to_install(self, frame, monkeypatch):
        """A Python function without numba is an error that names the extra."""
        import importlib.util

        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *args: None if name == "numba" else find(name, *args)
        )
        with pytest.raises(ConfigurationError, match=r"pip install 'dask-root-lambda\[numba\]'"):
            frame.Filter(lambda x: x > 1, ["x"])
