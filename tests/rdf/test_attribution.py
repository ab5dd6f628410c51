"""Errors of the user's code name the operation as it was written, and the entry."""

from __future__ import annotations

import sys
import threading

import pytest

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import CompilationError, UserCodeError
from lambda_runtime import attribution
from tests.conftest import ROOT

N = 1000
AFTER = 'if (x > {}) throw std::runtime_error("too far"); return {};'


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three files of 1,000 entries in 10 clusters; x counts through them, v has 0 to 4 elements."""
    options = ROOT.RDF.RSnapshotOptions()
    options.fAutoFlush = 100
    folder, made = tmp_path_factory.mktemp("attribution"), []
    for index in range(3):
        made.append(str(folder / f"f{index}.root"))
        frame = ROOT.RDataFrame(N).Define("x", f"{index * N} + double(rdfentry_)")
        frame.Define("v", "ROOT::RVecF(rdfentry_ % 5, 1.f)").Snapshot("Events", made[-1], ["x", "v"], options)
    return made


@pytest.fixture
def frame(files):
    return RDataFrame("Events", files, npartitions=1)


def raised(result):
    with pytest.raises(UserCodeError) as caught:
        result.GetValue()
    return caught.value.message


class TestOperations:
    """The first operation that raises at the entry is named, among all that are booked."""

    def test_a_define_of_many(self, local, frame, files):
        """Operations before it, named filters after it, and other results are not taken for it."""
        chain = frame.Define("y", "x * 2").Filter("y > 2001", "above")
        others = [chain.Histo1D(("h", "", 10, 0, 1), "x"), chain.Report(), frame.Count()]
        chain = chain.Define("z", "v.at(3)").Filter("z > 0", "below")
        message = raised(chain.Define("w", "z + y").Sum("w"))
        assert message.startswith(f"Define('z', 'v.at(3)'), at entry 1 of {files[1]}, raised out_of_range: ")
        assert "RVecN::at: size is 1 but out-of-bounds index 3 was requested" in message
        assert len(others) == 3

    def test_a_filter(self, local, frame, files):
        """A filter as well, in the last file."""
        expression = AFTER.format(2345, "y > 5")
        message = raised(frame.Define("y", "x").Filter(expression).Mean("y"))
        assert message.startswith(
            f"Filter({expression!r}), at entry 346 of {files[2]}, raised runtime_error: "
        )

    def test_a_variation(self, local, frame, files):
        """What varies a column is told from what reads it."""
        expression = AFTER.format(777, "ROOT::RVecD{x - 1, x + 1}")
        varied = frame.Vary("x", expression, ["down", "up"]).Sum("x")
        message = raised(ROOT.RDF.Distributed.VariationsFor(varied))
        assert message.startswith("Vary('x', ")
        assert f"at entry 778 of {files[0]}, raised" in message

    def test_a_value_of_samples(self, local, frame, files):
        """What is defined for samples raises at the first entry of a file."""
        expression = 'if (rdfsampleinfo_.Contains("f2.root")) throw std::runtime_error("late"); return 1.;'
        others = frame.DefinePerSample("one", "1.").Define("y", "one + x").Filter("y > 0", "above")
        message = raised(others.DefinePerSample("late", expression).Sum("late"))
        assert message.startswith(
            f"DefinePerSample('late', {expression!r}), at entry 0 of {files[2]}, raised "
        )

    def test_metadata_that_is_not_there(self, local, files):
        """Such as what asks a sample for metadata that it has not."""
        spec = ROOT.RDF.Experimental.RDatasetSpec()
        spec.AddSample(("sample", "Events", files))
        defined = RDataFrame(spec, npartitions=1).DefinePerSample("lumi", 'rdfsampleinfo_.GetD("lumi")')
        assert raised(defined.Sum("lumi")).startswith("DefinePerSample('lumi', 'rdfsampleinfo_.GetD")

    def test_a_column_that_nothing_reads(self, local, frame, files):
        """What would raise, and was not evaluated, is not named."""
        message = raised(frame.Define("unused", "v.at(9)").Define("used", "v.at(3)").Sum("used"))
        assert message.startswith(f"Define('used', 'v.at(3)'), at entry 0 of {files[0]}, raised")

    @pytest.mark.parametrize("action", ["Snapshot", "AsNumpy"])
    def test_what_runs_at_once(self, local, frame, files, action, tmp_path):
        """Behind these actions, too, the operation is named."""
        defined = frame.Define("z", "v.at(3)")
        arguments = {"Snapshot": ("t", str(tmp_path / "out.root"), ["z"]), "AsNumpy": (["z"],)}[action]
        with pytest.raises(UserCodeError, match=r"^Define\('z', 'v.at\(3\)'\), at entry 0 of .*f0.root"):
            getattr(defined, action)(*arguments)


class TestSources:
    """Wherever entries come from, and whatever ran before."""

    @pytest.mark.parametrize("where", ["local", "emulated"])
    def test_in_a_range(self, request, files, where):
        """In an environment that has run other ranges of the graph, the entry is that of the file."""
        with request.getfixturevalue(where).get_client():
            frame = RDataFrame("Events", files, npartitions=9)
            message = raised(frame.Define("y", AFTER.format(2222, "x")).Sum("y"))
        entry, name = message.partition(", raised ")[0].rpartition(", at entry ")[2].split(" of ")
        assert name == files[2]
        # Several ranges raise: which is told first is up to them.
        assert int(entry) == 223 or int(entry) % 100 == 0

    def test_entries(self, local):
        """Without files, the entry's number is that of the frame."""
        expression = 'if (rdfentry_ == 777) throw std::runtime_error("seven"); return 1.;'
        message = raised(RDataFrame(N, npartitions=3).Define("y", expression).Sum("y"))
        assert message.startswith(f"Define('y', {expression!r}), at entry 777, raised runtime_error: ")

    def test_friends(self, local, files, tmp_path):
        """Ranges are given files before their own, where only there files of all begin."""
        friend = str(tmp_path / "friend.root")
        ROOT.RDataFrame(3 * N).Define("y", "double(rdfentry_)").Snapshot("Friends", friend, ["y"])
        chain, others = ROOT.TChain("Events"), ROOT.TChain("Friends")
        for name in files:
            chain.Add(name)
        others.Add(friend)
        chain.AddFriend(others, "friend")
        frame = RDataFrame(chain, npartitions=6)
        throwing = 'if (x == 2450) throw std::runtime_error("too far"); return x + friend.y;'
        message = raised(frame.Define("z", throwing).Sum("z"))
        assert message.startswith(f"Define('z', {throwing!r}), at entry 450 of {files[2]}, raised")

    def test_a_specification(self, local, files):
        """The files of a data set specification."""
        spec = ROOT.RDF.Experimental.RDatasetSpec()
        spec.AddSample(("sample", "Events", files))
        message = raised(RDataFrame(spec, npartitions=1).Define("y", AFTER.format(1500, "x")).Sum("y"))
        assert f", at entry 501 of {files[1]}, raised runtime_error: " in message

    def test_ntuples(self, local, tmp_path):
        """RNTuples as well."""
        options = ROOT.RDF.RSnapshotOptions()
        options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
        path = str(tmp_path / "ntuple.root")
        ROOT.RDataFrame(N).Define("x", "double(rdfentry_)").Snapshot("Events", path, ["x"], options)
        message = raised(
            RDataFrame("Events", path, npartitions=1).Define("y", AFTER.format(41, "x")).Sum("y")
        )
        assert f", at entry 42 of {path}, raised runtime_error: " in message

    def test_side_by_side(self, local, files):
        """Ranges that fail in several threads at once each find their own."""
        found = []

        def fail(index):
            frame = RDataFrame("Events", files[index], npartitions=1)
            found.append((index, raised(frame.Define("y", AFTER.format(N * index + 10, "x")).Sum("y"))))

        threads = [threading.Thread(target=fail, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert len(found) == 3
        for index, message in found:
            assert f", at entry 11 of {files[index]}, raised" in message


class TestWhatIsNotFound:
    """The error is then what it was without the search."""

    def test_what_raises_once(self, local, frame):
        """Code that does not raise again is not found, and the frame works on."""
        ROOT.gInterpreter.Declare("std::atomic<int> drl_once{0};")
        once = 'if (drl_once++ == 0) throw std::runtime_error("once"); return 1.;'
        assert raised(frame.Define("y", once).Sum("y")).startswith("the graph raised runtime_error: ")
        assert frame.Define("z", once).Sum("z").GetValue() == 3 * N

    def test_a_loop_that_took_long(self, local, frame, monkeypatch):
        """After a long event loop nothing is tried: the function's own time is limited."""
        monkeypatch.setattr(attribution, "_LONGEST_LOOP_S", 0.0)
        assert raised(frame.Define("y", "v.at(3)").Sum("y")).startswith("the graph raised out_of_range: ")

    def test_no_time_left(self, local, frame, monkeypatch):
        """The search ends when its time is over."""
        monkeypatch.setattr(attribution, "_LONGEST_SEARCH_S", 0.0)
        assert raised(frame.Define("y", "v.at(3)").Sum("y")).startswith("the graph raised out_of_range: ")

    def test_a_search_that_fails(self, local, frame, monkeypatch):
        """Whatever goes wrong in it, the user's error arrives."""
        monkeypatch.setattr(attribution, "_only_entry", None)
        assert raised(frame.Define("y", "v.at(3)").Sum("y")).startswith("the graph raised out_of_range: ")


def test_code_that_does_not_compile_there(emulated, frame):
    """What compiles in the user's process and not in the function names the operation, too."""
    ROOT.gInterpreter.Declare("double drl_only_here(double x) { return x; }")
    with emulated.get_client():
        total = frame.Define("y", "x").Define("z", "drl_only_here(y)").Sum("z")
        with pytest.raises(
            CompilationError, match=r"^Define\('z', 'drl_only_here\(y\)'\) does not compile; see"
        ):
            total.GetValue()


def test_long_arguments_are_shortened(local, frame):
    """Of an expression of pages, the beginning is shown."""
    message = raised(frame.Define("y", f"/* {'x' * 5000} */ v.at(3)").Sum("y"))
    assert message.startswith("Define('y', '/* xxx")
    assert len(message) < 1500


def test_a_python_function(local, frame, monkeypatch):
    """It is called by its own name, such as where numba is missing."""

    def passes(x):
        return x > 1

    passed = frame.Filter(passes, ["x"]).Count()
    monkeypatch.setitem(sys.modules, "numba", None)
    assert raised(passed).startswith("Filter(passes, ['x']) raised ")
