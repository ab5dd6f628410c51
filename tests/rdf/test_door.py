"""ROOT's own door, unmodified: ``ROOT.RDataFrame(..., executor=client)``; and what users distribute."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from distributed import Client, LocalCluster

from dask_root_lambda import LambdaCluster, RDataFrame
from dask_root_lambda.protocol.errors import GraphError, UserCodeError
from dask_root_lambda.rdf import door, packing
from tests.conftest import ROOT, write_events

SUM = 499500.0


@pytest.fixture
def client(local):
    return Client.current()


class TestTheHook:
    """All of ROOT's doors lead to Lambda for our clients, and to ROOT's own backend for others."""

    def test_an_unmodified_script(self, client, local, events_file):
        """A script that passes executor=client runs its ranges on our executor, one pass for its results."""
        df = ROOT.RDataFrame("Events", events_file, executor=client)
        passed = df.Filter("x >= 500")
        histogram, count = passed.Histo1D(("h", "", 10, 0, 1000), "x"), passed.Count()
        assert histogram.GetEntries() == 500
        assert count.GetValue() == 500
        assert local.report().total.ranges == 2

    def test_before_the_first_heartbeat(self, client, local, events_file):
        """A frame is ours, whatever the scheduler knows of the worker yet: stock DistRDF never runs."""
        (worker,) = local.scheduler.workers.values()
        worker.metrics.pop("lambda", None)
        df = ROOT.RDataFrame("Events", events_file, executor=client)
        assert isinstance(df, RDataFrame)

    @pytest.mark.filterwarnings("ignore:The keyword argument 'daskclient':FutureWarning")
    @pytest.mark.parametrize("keyword", ["executor", "daskclient"])
    def test_the_module_of_the_dask_backend(self, client, local, events_file, keyword):
        """ROOT.RDF.Distributed.Dask.RDataFrame is caught by the same hook."""
        df = ROOT.RDF.Distributed.Dask.RDataFrame("Events", events_file, npartitions=3, **{keyword: client})
        assert df.Sum("x").GetValue() == SUM
        assert local.report().total.ranges == 3

    def test_from_spec(self, client, local, events_file, tmp_path):
        """ROOT.RDF.Experimental.FromSpec with an executor as well, with its metadata."""
        path = tmp_path / "spec.json"
        sample = {"trees": ["Events"], "files": [events_file], "metadata": {"lumi": 2.0}}
        path.write_text(json.dumps({"samples": {"data": sample}}))
        df = ROOT.RDF.Experimental.FromSpec(str(path), executor=client)
        weighted = df.DefinePerSample("lumi", 'rdfsampleinfo_.GetD("lumi")').Sum("lumi")
        assert weighted.GetValue() == 2000.0
        assert local.report().total.entries == 1000

    def test_snapshot_variations_and_numpy(self, client, events_file, tmp_path):
        """What DistRDF offers besides plain actions works through this door."""
        df = ROOT.RDataFrame("Events", events_file, executor=client)
        written = df.Filter("x < 10").Snapshot("Few", str(tmp_path / "few.root"), ["x"])
        assert written.Sum("x").GetValue() == 45.0
        assert df.Filter("x < 3").AsNumpy(["x"])["x"].tolist() == [0, 1, 2]
        varied = df.Vary("x", "ROOT::RVecI{x - 1, x + 1}", ["down", "up"]).Sum("x")
        sums = ROOT.RDF.Experimental.VariationsFor(varied)
        assert (sums["nominal"], sums["x:up"]) == (SUM, SUM + 1000)

    def test_empty_trees(self, client, tmp_path):
        """Through this door, too, a tree without entries gives empty results."""
        df = ROOT.RDataFrame("Events", write_events(tmp_path / "empty.root", entries=0), executor=client)
        assert df.Count().GetValue() == 0

    def test_run_graphs(self, client, local, events_file):
        """ROOT's RunGraphs runs graphs of several frames."""
        frames = [ROOT.RDataFrame("Events", events_file, executor=client) for _ in range(2)]
        counts = [frame.Filter(f"x > {index}").Count() for index, frame in enumerate(frames)]
        assert ROOT.RDF.RunGraphs(counts) == 2
        assert [count.GetValue() for count in counts] == [999, 998]

    def test_run_graphs_runs_what_is_computed_apart(self, client, local, events_file):
        """Results of one frame of which some need its first entries only are all there afterwards."""
        frame = ROOT.RDataFrame("Events", events_file, executor=client)
        results = [frame.Count(), frame.Range(10).Sum("x"), frame.Display(["x"], 2)]
        assert ROOT.RDF.RunGraphs(results) == 1
        assert all(result.IsReady() for result in results)
        assert results[1].GetValue() == sum(range(10))

    def test_errors_are_the_same(self, client, events_file):
        """An error where the range runs is raised where the script touches the result."""
        df = ROOT.RDataFrame("Events", events_file, executor=client)
        total = df.Define("y", 'throw std::runtime_error("of the user"); return 1.;').Sum("y")
        with pytest.raises(Exception, match="of the user"):
            total.GetValue()

    def test_progress_bars(self, events_file, capfd):
        """ROOT's AddProgressBar shows ours, also where the cluster was made to show nothing."""
        with (
            LambdaCluster(
                execution="local", concurrency=2, progress=False, dashboard_address=None
            ) as cluster,
            cluster.get_client() as client,
        ):
            df = ROOT.RDataFrame("Events", events_file, executor=client, npartitions=2)
            for _ in range(2):
                ROOT.RDF.Experimental.AddProgressBar(df.Filter("x > 1"))
            assert df.Count().GetValue() == 1000
        assert capfd.readouterr().err.count("0 of 2 ranges") == 1
        with pytest.warns(UserWarning, match="LambdaCluster"):
            ROOT.RDF.Experimental.AddProgressBar(RDataFrame("Events", events_file))

    def test_other_clients_keep_roots_own_backend(self, events_file):
        """The hook does not touch clients of other clusters, also when it is installed twice."""
        from ROOT._distrdf.Backends.Dask.Backend import DaskBackend

        door.install()
        door.install()
        with (
            LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as other,
        ):
            df = ROOT.RDataFrame("Events", events_file, executor=other)
            assert type(df._headnode.backend) is DaskBackend
            assert df.Sum("x").GetValue() == SUM


_PLUGIN = """
import ROOT
from distributed import Client, LocalCluster
from dask_root_lambda import LambdaPlugin

options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
with LocalCluster(**options) as cluster, Client(cluster) as client:
    client.register_plugin(LambdaPlugin(execution="local"))
    count = ROOT.RDataFrame(1000, executor=client).Filter("rdfentry_ < 10").Count()
    print(type(count).__module__, count.GetValue())
"""


def test_a_client_of_any_cluster_with_the_plugin():
    """Without a LambdaCluster, ROOT's own door leads to the executor as well."""
    done = subprocess.run(
        [sys.executable, "-c", _PLUGIN], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["dask_root_lambda.rdf.frame", "10"]


_NO_CLUSTER = """
import dask, ROOT
from dask_root_lambda import RDataFrame

frame = RDataFrame(10, npartitions=2).Define("x", "double(rdfentry_)")
with dask.config.set(scheduler="synchronous"):
    varied = ROOT.RDF.Experimental.VariationsFor(frame.Vary("x", "ROOT::RVecD{x + 1, x}", 2).Sum("x"))
    count = frame.Count()
    print(ROOT.RDF.RunGraphs([count]), count.IsReady(), varied["nominal"], len(ROOT.RDF.SaveGraph(frame)) > 0)
"""


def test_roots_functions_without_a_cluster():
    """They take our results from the import of RDataFrame on, under any scheduler of Dask's."""
    done = subprocess.run(
        [sys.executable, "-c", _NO_CLUSTER], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.split() == ["1", "True", "45.0", "True"], done.stderr


class TestDistribution:
    """What users register with DistRDF reaches the environments, through either door."""

    CODE = "int drl_seven_times(int x) { return 7 * x; }"

    @pytest.mark.parametrize("where", ["local", "emulated"])
    def test_cpp_code(self, request, events_file, registered, where):
        """DistributeCppCode declares a function there."""
        ROOT.RDF.Distributed.DistributeCppCode(self.CODE.replace("seven", f"seven_{where}"))
        with request.getfixturevalue(where).get_client():
            df = RDataFrame("Events", events_file, npartitions=3)
            assert df.Define("y", f"drl_seven_{where}_times(x)").Sum("y").GetValue() == 7 * SUM

    def test_an_edited_function_is_an_error_each_time(self, local, events_file, registered):
        """This process cannot define it anew: what it did before is never run in silence."""
        ROOT.RDF.Distributed.DistributeCppCode("double drl_edited() { return 1; }")
        defined = RDataFrame("Events", events_file, npartitions=3).Define("y", "drl_edited()")
        assert defined.Sum("y").GetValue() == 1000
        ROOT.RDF.Distributed.DistributeCppCode("double drl_edited() { return 2; }")
        for _ in range(2):
            defined = RDataFrame("Events", events_file, npartitions=3).Define("y", "drl_edited()")
            with pytest.raises(GraphError, match=r"(?s)another name, or start the process.*redefinition"):
                defined.Sum("y").GetValue()

    def test_an_edited_header_is_an_error_under_local_execution(
        self, local, events_file, registered, tmp_path
    ):
        """Each time, until it has another name; a LambdaCluster's functions take it as it is now."""
        header = tmp_path / "edited.h"
        header.write_text("#pragma once\ninline double drl_header() { return 1; }\n")
        ROOT.RDF.Distributed.DistributeHeaders([str(header)])
        defined = RDataFrame("Events", events_file, npartitions=3).Define("y", "drl_header()")
        assert defined.Sum("y").GetValue() == 1000
        header.write_text("#pragma once\ninline double drl_header() { return 20; }\n")
        for _ in range(2):
            defined = RDataFrame("Events", events_file, npartitions=3).Define("y", "drl_header()")
            with pytest.raises(UserCodeError, match=r"edited\.h has changed.*start it anew"):
                defined.Sum("y").GetValue()

    def test_two_files_of_one_name_are_refused(self, local, events_file, registered, tmp_path):
        """They go into one directory; both are named."""
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "w.txt").write_text(name)
        ROOT.RDF.Distributed.DistributeFiles([str(tmp_path / name / "w.txt") for name in ("one", "two")])
        count = RDataFrame("Events", events_file, npartitions=3).Count()
        with pytest.raises(GraphError, match=r"one/w\.txt and .*two/w\.txt have one name"):
            count.GetValue()

    def test_cpp_code_that_does_not_compile(self, local, events_file, registered):
        """It is an error before anything runs, with Cling's diagnostics, and not one of what follows."""
        ROOT.RDF.Distributed.DistributeCppCode("int drl_typo(int x) { return y; }")
        count = RDataFrame("Events", events_file, npartitions=3).Count()
        with pytest.raises(GraphError, match=r"(?s)DistributeCppCode does not compile.*identifier 'y'"):
            count.GetValue()
        assert local.report().total.invocations == 0
        ROOT.RDF.Distributed.DistributeCppCode("int drl_typo(int x) { return x; }")
        df = RDataFrame("Events", events_file, npartitions=3)
        assert df.Define("y", "drl_typo(x)").Sum("y").GetValue() == SUM

    def test_headers(self, emulated, events_file, registered, tmp_path):
        """DistributeHeaders makes a header's functions known there, once, and headers include each other."""
        (tmp_path / "inner.h").write_text("#pragma once\ninline int drl_inner() { return 3; }\n")
        (tmp_path / "outer.h").write_text(
            '#include "inner.h"\ninline int drl_thrice(int x) { return drl_inner() * x; }\n'
        )
        ROOT.gInterpreter.AddIncludePath(f"-I{tmp_path}")
        ROOT.RDF.Distributed.DistributeHeaders([str(tmp_path / "inner.h"), str(tmp_path / "outer.h")])
        with emulated.get_client() as client:
            df = ROOT.RDataFrame("Events", events_file, executor=client, npartitions=3)
            assert df.Define("y", "drl_thrice(x)").Sum("y").GetValue() == 3 * SUM

    def test_headers_in_this_process_are_not_declared_twice(self, local, events_file, registered, tmp_path):
        """Under local execution a header without a guard, declared by the user already, is no error."""
        (tmp_path / "unguarded.h").write_text("int drl_unguarded(int x) { return x + 1; }\n")
        ROOT.RDF.Distributed.DistributeHeaders([str(tmp_path / "unguarded.h")])
        df = RDataFrame("Events", events_file, npartitions=3)
        assert df.Define("y", "drl_unguarded(x)").Sum("y").GetValue() == SUM + 1000

    def test_files(self, emulated, events_file, registered, tmp_path):
        """DistributeFiles puts a file where the range runs, under its plain name."""
        (tmp_path / "weights.txt").write_text("2.5\n")
        ROOT.RDF.Distributed.DistributeFiles([str(tmp_path / "weights.txt")])
        ROOT.RDF.Distributed.DistributeCppCode(
            """
            #include <fstream>
            double drl_weight() { std::ifstream f("weights.txt"); double w = -1; f >> w; return w; }
            """
        )
        with emulated.get_client():
            df = RDataFrame("Events", events_file, npartitions=2)
            assert df.Define("w", "drl_weight()").Sum("w").GetValue() == 2500.0

    def test_shared_libraries(self, emulated, events_file, registered, tmp_path):
        """DistributeSharedLibs loads a library there."""
        source, library = tmp_path / "nine.cxx", tmp_path / "libdrlnine.so"
        source.write_text("int drl_nine() { return 9; }\n")
        subprocess.run(["g++", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60)
        ROOT.RDF.Distributed.DistributeSharedLibs(str(library))
        ROOT.RDF.Distributed.DistributeCppCode("int drl_nine();")
        with emulated.get_client():
            df = RDataFrame("Events", events_file, npartitions=2)
            assert df.Define("y", "drl_nine() * x").Sum("y").GetValue() == 9 * SUM

    @pytest.fixture
    def distributed(self, registered, tmp_path):
        """One of each that can be distributed; the column of their product."""
        (tmp_path / "door.h").write_text("#pragma once\ninline int drl_door_two() { return 2; }\n")
        (tmp_path / "door.txt").write_text("3\n")
        (tmp_path / "door.cxx").write_text("int drl_door_five() { return 5; }\n")
        library = str(tmp_path / "libdrldoor.so")
        compiler = ["g++", "-shared", "-fPIC", "-o", library, str(tmp_path / "door.cxx")]
        subprocess.run(compiler, check=True, timeout=60)

        def declare(value):
            import ROOT

            guard = "#ifndef DRL_DOOR\n#define DRL_DOOR\n"
            ROOT.gInterpreter.Declare(f"{guard}int drl_door_seven() {{ return {value}; }}\n#endif")

        ROOT.RDF.Distributed.DistributeHeaders([str(tmp_path / "door.h")])
        ROOT.RDF.Distributed.DistributeFiles([str(tmp_path / "door.txt")])
        ROOT.RDF.Distributed.DistributeSharedLibs(library)
        ROOT.RDF.Distributed.DistributeCppCode(
            """
            #include <fstream>
            int drl_door_five();
            int drl_door_three() { std::ifstream f("door.txt"); int n = -1; f >> n; return n; }
            """
        )
        ROOT.RDF.Distributed.initialize(declare, 7)
        return "drl_door_two() * drl_door_three() * drl_door_five() * drl_door_seven() * x"

    @pytest.mark.parametrize("door", ["RDataFrame", "Dask.RDataFrame", "FromSpec"])
    def test_all_of_it_through_roots_own_doors(self, emulated, events_file, distributed, tmp_path, door):
        """Headers, files, libraries, code and initialize reach the environments from unmodified scripts."""
        before = emulated.report().total.ranges
        with emulated.get_client() as client:
            if door == "RDataFrame":
                df = ROOT.RDataFrame("Events", events_file, executor=client, npartitions=3)
            elif door == "Dask.RDataFrame":
                dask_module = ROOT.RDF.Distributed.Dask
                df = dask_module.RDataFrame("Events", events_file, executor=client, npartitions=3)
            else:
                path = tmp_path / "spec.json"
                samples = {"data": {"trees": ["Events"], "files": [events_file], "metadata": {}}}
                path.write_text(json.dumps({"samples": samples}))
                df = ROOT.RDF.Experimental.FromSpec(str(path), executor=client, npartitions=3)
            histogram = df.Define("y", distributed).Histo1D(("h", "", 10, 0, 210_000), "y")
            assert histogram.GetMean() == pytest.approx(210 * SUM / 1000)
            assert histogram.GetEntries() == 1000
        assert emulated.report().total.ranges == before + 3

    def test_initialize(self, emulated, events_file, registered):
        """The function given to initialize runs in each environment, before the graph."""

        def declare(factor):
            import ROOT

            ROOT.gInterpreter.Declare(
                f"#ifndef DRL_INIT\n#define DRL_INIT\nint drl_initialized(int x) {{ return {factor} * x; }}\n"
                "#endif"
            )

        ROOT.RDF.Distributed.initialize(declare, 11)
        with emulated.get_client():
            df = RDataFrame("Events", events_file, npartitions=2)
            assert df.Define("y", "drl_initialized(x)").Sum("y").GetValue() == 11 * SUM

    def test_an_initialize_that_raises(self, local, events_file, registered):
        """A Python exception in it is told with its traceback, as the user's."""
        calls = []

        def initialize():
            if calls:
                raise ValueError("no such calibration")
            calls.append(1)

        from ROOT._distrdf.Backends.Base import BaseBackend

        BaseBackend.initialization = staticmethod(
            lambda: (_ for _ in ()).throw(ValueError("no such calibration"))
        )
        with pytest.raises(Exception, match="given to initialize raised ValueError: no such calibration"):
            RDataFrame("Events", events_file, npartitions=1).Sum("x").compute()

    @pytest.mark.parametrize(
        ("register", "named"),
        [
            (lambda: None, False),
            (lambda: ROOT.RDF.Distributed.DistributeCppCode("inline int drl_named() { return 1; }"), True),
            (lambda: ROOT.RDF.Distributed.initialize(int), True),
        ],
    )
    def test_what_a_graph_brings_has_a_name(self, local, events_file, registered, register, named):
        """Graphs that bring nothing into the process that runs them share one, and have none."""
        register()
        frame = RDataFrame("Events", events_file, npartitions=1)
        mapper = packing.pack(frame._headnode, [frame.Sum("x").node], 1).mapper
        assert bool(mapper.identity) == named

    def test_changed_code_is_another_run(self, local, events_file, registered, tmp_path):
        """The identity of a run covers what was distributed: another header is another run."""
        from dask.base import tokenize

        header = tmp_path / "changing.h"
        tokens = set()
        for value in (1, 2):
            header.write_text(f"inline int drl_changing_{value}() {{ return {value}; }}\n")
            ROOT.RDF.Distributed.DistributeHeaders([str(header)])
            tokens.add(tokenize(RDataFrame("Events", events_file, npartitions=1).Sum("x")))
        assert len(tokens) == 2
