"""What DistRDF takes and gets wrong is refused or right, at the user's line."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import pytest
from ROOT._distrdf.Backends.Base import BaseBackend

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import GraphError
from tests.conftest import ROOT


class TestWhatWouldBeWrong:
    """What DistRDF takes, and drops or fits anew in each range, is refused at the user's line."""

    @pytest.mark.parametrize(
        ("action", "arguments"),
        [
            ("Histo1D", (("h", "", 50, 0, 0), "x")),
            ("Histo1D", (ROOT.RDF.TH1DModel("h", "", 50, 0.0, 0.0), "x")),
            ("Histo1D", ("x",)),
            ("Histo2D", (("h", "", 5, 0.0, 1.0, 5, 0.0, 0.0), "x", "x")),
            ("Histo2D", (("h", "", 2, np.array([0.0, 1.0, 2.0]), 5, 1.0, 0.0), "x", "x")),
            ("Profile1D", (("p", "", 50, 0, 0), "x", "x")),
            ("Histo1D", (("h", "", 50, np.int64(0), np.float32(0)), "x")),
        ],
    )
    def test_automatic_axes(self, events_file, action, arguments):
        """Each range would have an axis of its own, and entries were lost where they were merged."""
        frame = RDataFrame("Events", events_file, npartitions=3)
        with pytest.raises(GraphError, match=rf"(?s){action}.*automatic axis.*give the limits"):
            getattr(frame, action)(*arguments)

    @pytest.mark.parametrize("named", [{"model": ("h", "", 5, 0, 1), "vName": "x"}, {"vName": "x"}, {}])
    def test_arguments_of_histograms_by_name(self, events_file, named):
        """ROOT takes them by position; told at the user's line, and not as an automatic axis."""
        with pytest.raises(GraphError, match="Histo1D takes a model and columns, by position"):
            RDataFrame("Events", events_file, npartitions=3).Histo1D(**named)

    def test_axes_by_edges_and_profiles_without_limits_of_values(self, local, events_file):
        """Edges are limits, and a profile's values need none."""
        frame = RDataFrame("Events", events_file, npartitions=3)
        by_edges = frame.Histo1D(("h", "", 2, np.array([0.0, 500.0, 1000.0])), "x")
        profile = frame.Profile1D(("p", "", 5, 0.0, 1000.0, 0.0, 0.0), "x", "x")
        assert by_edges.GetEntries() == profile.GetEntries() == 1000

    def test_limits_of_numpy(self, local, events_file):
        """Integers and single precision are numbers as others: these axes have limits."""
        frame = RDataFrame("Events", events_file, npartitions=3)
        model = ("h", "", 10, np.int64(0), np.int64(1000), 20, np.float32(0), np.float32(500))
        assert frame.Histo2D(model, "x", "x").Integral() == 500

    @pytest.mark.parametrize("kind", ["TEntryList", "TEventList"])
    def test_entry_lists(self, events_file, kind):
        """A tree that shows some of its entries has them all in ranges."""
        chain = ROOT.TChain("Events")
        chain.Add(events_file)
        chain.GetEntries()
        chosen = getattr(ROOT, kind)("chosen", "")
        chosen.Enter(3, *([chain] if kind == "TEntryList" else []))
        (chain.SetEntryList if kind == "TEntryList" else chain.SetEventList)(chosen)
        with pytest.raises(GraphError, match="entry list of Events"):
            RDataFrame(chain, npartitions=3)

    def test_global_ranges(self, events_file):
        """A specification of some entries of its data set."""
        spec = ROOT.RDF.Experimental.RDatasetSpec()
        spec.AddSample(("data", "Events", events_file)).WithGlobalRange((0, 100))
        with pytest.raises(GraphError, match="WithGlobalRange"):
            RDataFrame(spec, npartitions=3)


@pytest.mark.parametrize("kind", [tuple, iter, lambda urls: [Path(url) for url in urls]])
def test_files_in_any_form(local, events_file, kind):
    """A tuple, an iterator, paths."""
    assert RDataFrame("Events", kind([events_file] * 2), npartitions=3).Count().GetValue() == 2000
    assert RDataFrame("Events", Path(events_file), npartitions=3).Count().GetValue() == 1000


def test_a_reproducible_file_that_was_replaced_is_another(local, tmp_path):
    """ROOT gives it the UUID of the one before, and here the size as well."""
    path = tmp_path / "r.root"

    def write(value):
        with ROOT.TFile.Open(f"{path}?reproducible=r.root", "RECREATE", "", 0) as file:
            tree, x = ROOT.TTree("Events", ""), np.array([float(value)])
            tree.Branch("x", x, "x/D")
            for _ in range(100):
                tree.Fill()
            file.WriteObject(tree, "Events")

    write(1)
    (kept,) = dask.persist(RDataFrame("Events", str(path), npartitions=2).Sum("x"))
    assert kept.GetValue() == 100
    write(2)
    assert dask.compute(RDataFrame("Events", str(path), npartitions=2).Sum("x")) == (200,)


def test_errors_of_user_code_are_runtime_errors(local, events_file):
    """ROOT raises RuntimeError, so scripts that catch it go on working."""
    frame = RDataFrame("Events", events_file, npartitions=3)
    thrown = frame.Define("y", 'throw std::runtime_error("of mine"); return x;').Sum("y")
    with pytest.raises(RuntimeError, match="of mine"):
        thrown.GetValue()


def test_files_distributed_as_for_roots_own_backends(local, events_file, tmp_path, monkeypatch):
    """What the AGC analysis calls: the files are registered, and travel."""
    registered = set()
    monkeypatch.setattr(BaseBackend, "files", registered)
    (tmp_path / "w.txt").write_text("1")
    frame = RDataFrame("Events", events_file, npartitions=3)
    frame._headnode.backend.distribute_unique_paths([str(tmp_path / "w.txt")])
    assert registered == {str(tmp_path / "w.txt")}


class TestOtherOperations:
    """Methods of RDataFrame that ranges cannot do are no attributes; the error says what to do instead."""

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("Cache", "Snapshot"),
            *((name, "Define columns") for name in ("Aggregate", "Book", "Fill", "Foreach", "Reduce")),
            ("DefineSlotEntry", "one slot each; use Define"),
            ("Profile3D", r"did you mean .*Profile1D"),
            ("VariationsFor", r"VariationsFor\(result\)"),
            ("Histo1d", "did you mean Histo1D"),
            ("shape", "operations are Alias, AsNumpy"),
        ],
    )
    def test_they_are_told(self, events_file, name, message):
        """By what is possible."""
        frame = RDataFrame("Events", events_file, npartitions=3)
        assert not hasattr(frame, name)
        with pytest.raises(AttributeError, match=message):
            getattr(frame.Filter("x > 3"), name)
