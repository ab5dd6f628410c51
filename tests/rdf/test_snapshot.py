"""Snapshot gives the entries of local ROOT's, in order, and its files are those of the last one."""

from __future__ import annotations

import os
import shutil

import dask
import numpy as np
import pytest

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import GraphError, InputError, UserCodeError
from dask_root_lambda.rdf import snapshots
from lambda_runtime.runner import SHARED
from tests.conftest import ROOT, write_events

RNTUPLE = ROOT.RDF.ESnapshotOutputFormat.kRNTuple


def options(**values):
    made = ROOT.RDF.RSnapshotOptions()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def frame_of(path, ranges=5):
    return RDataFrame("Events", path, npartitions=ranges)


def values(frame, column="x"):
    return frame.AsNumpy([column])[column].tolist()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def skim(tmp_path):
    """Where to write."""
    return str(tmp_path / "skim.root")


class TestEntries:
    """As local ROOT's, whatever the options."""

    @pytest.mark.parametrize("cut", ["x >= 0", "x % 3 == 0", "x > 500 && x < 700", "x < 0"])
    @pytest.mark.parametrize("output", [{}, {"fOutputFormat": RNTUPLE}], ids=["TTree", "RNTuple"])
    def test_the_same_in_the_same_order(self, local, events_file, skim, cut, output):
        """A cut may keep nothing in some ranges, or in all."""
        whole = ROOT.RDataFrame("Events", events_file).Filter(cut)
        written = frame_of(events_file).Filter(cut).Snapshot("s", skim, ["x", "pt"], options(**output))
        assert sorted(map(str, written.GetColumnNames())) == ["pt", "x"]
        for column in ("x", "pt"):
            expected = whole.AsNumpy([column])[column]
            found = written.AsNumpy([column])[column]
            assert found.dtype == expected.dtype
            assert np.array_equal(found, expected)

    @pytest.mark.parametrize("output", [{}, {"fOutputFormat": RNTUPLE}], ids=["TTree", "RNTuple"])
    def test_through_roots_own_door(self, local, events_file, skim, output):
        """To RNTuple, it ended the user's process."""
        from distributed import Client

        frame = ROOT.RDataFrame("Events", events_file, executor=Client.current(), npartitions=3)
        written = frame.Snapshot("s", skim, ["x"], options(**output))
        assert values(written) == list(range(1000))

    def test_no_entries(self, local, tmp_path, skim):
        """Of a dataset without entries there is a tree without entries, with its columns."""
        written = frame_of(write_events(tmp_path / "empty.root", entries=0)).Snapshot("s", skim)
        assert sorted(map(str, written.GetColumnNames())) == ["pt", "x"]
        assert written.Count().GetValue() == 0

    def test_columns_by_pattern(self, local, events_file, skim):
        """Columns may be given as an expression; all are written where none are."""
        frame = frame_of(events_file).Define("y", "x * 2")
        assert list(map(str, frame.Snapshot("s", skim, "[xy]").GetColumnNames())) == ["x", "y"]
        assert len(frame.Snapshot("s", skim).GetColumnNames()) == 3

    def test_other_options(self, local, events_file, skim):
        """They hold for each file."""
        frame = frame_of(events_file, 2)
        lzma = ROOT.RCompressionSetting.EAlgorithm.kLZMA
        chosen = options(fAutoFlush=50, fCompressionAlgorithm=lzma, fCompressionLevel=7)
        frame.Snapshot("s", skim, ["x"], chosen)
        file = ROOT.TFile(skim.replace(".root", "_0.root"))
        assert (file.GetCompressionLevel(), file.Get("s").GetAutoFlush()) == (7, 50)

    def test_two_in_one_graph(self, local, events_file, tmp_path):
        """Each has its files, and one event loop writes both."""
        frame, lazy = frame_of(events_file), options(fLazy=True)
        few = frame.Filter("x < 10").Snapshot("few", str(tmp_path / "few.root"), ["x"], lazy)
        all_of_it = frame.Snapshot("all", str(tmp_path / "all.root"), ["x"], lazy)
        assert names(tmp_path) == []
        first, second, count = dask.compute(few, all_of_it, frame.Count())
        assert local.report().total.ranges == 5
        assert (values(first), values(second), count) == (list(range(10)), list(range(1000)), 1000)


class TestFiles:
    """Those of one Snapshot, and no others."""

    @pytest.mark.parametrize("cluster", ["local", "emulated"])
    def test_the_output_is_not_the_input(self, request, events_file, skim, cluster):
        """A Snapshot of a Snapshot may have its name: what it reads is there until it is done."""
        with request.getfixturevalue(cluster).get_client():
            first = frame_of(events_file).Snapshot("t", skim, ["x"])
            second = first.Filter("x < 500").Snapshot("t", skim, ["x"])
            assert values(second) == list(range(500))
            with pytest.raises(InputError, match="was replaced"):
                first.Count().GetValue()

    def test_no_files_of_an_older_one_stay(self, local, events_file, tmp_path, skim):
        """With fewer ranges there are fewer files, also in the sight of those who look for them."""
        frame_of(events_file, 5).Snapshot("t", skim, ["x"])
        shutil.copy(tmp_path / "skim_0.root", tmp_path / "other_7.root")
        write_events(tmp_path / "skim_2018.root")
        frame_of(events_file, 3).Snapshot("t", skim, ["x"])
        kept = ["other_7.root", *(f"skim_{index}.root" for index in (0, 1, 2, 2018))]
        assert names(tmp_path) == sorted(kept)

    def test_files_of_others_are_not_replaced(self, local, events_file, tmp_path, skim):
        """A file that has the name of one to be written, and is not of a Snapshot, is not lost."""
        mine = write_events(tmp_path / "skim_1.root")
        with pytest.raises(GraphError, match=r"replace .*skim_1.root, which no Snapshot to .* has written"):
            frame_of(events_file).Snapshot("t", skim, ["x"])
        assert ROOT.RDataFrame("Events", mine).Count().GetValue() == 1000

    def test_directories_whose_name_has_root(self, local, events_file, tmp_path):
        """The last ending of a path is the file's; of two names there are two data sets."""
        folder = tmp_path / "my.root.d"
        folder.mkdir()
        frame = frame_of(events_file, 2)
        frame.Snapshot("t", str(folder / "a.root"), ["x"])
        frame.Snapshot("t", str(folder / "b"), ["x"])
        assert names(folder) == ["a_0.root", "a_1.root", "b_0.root", "b_1.root"]
        assert names(tmp_path) == ["my.root.d"]

    def test_a_range_that_runs_twice(self, local, events_file, tmp_path, skim):
        """What one attempt writes is not changed by another, and one of them counts."""
        written = frame_of(events_file, 2).Snapshot("t", skim, ["x"], options(fLazy=True))
        (mapper,) = (task for key, task in written.dask.items() if str(key).startswith("rdf-mapper"))
        packed = mapper()
        parts = [
            SHARED.map(packed.digest, lambda: packed.blob, index, packed.division[index])[0]
            for index in (0, 0, 1)
        ]
        assert [name.startswith(".skim_") for name in names(tmp_path)] == [True] * 3
        merged = SHARED.merge([parts[1], parts[2]])
        for _ in range(2):
            SHARED.finish(merged, n_files=1, entries=None)
        files = sorted(map(str, tmp_path.glob("skim_*")))
        assert files == [str(tmp_path / "skim_0.root"), str(tmp_path / "skim_1.root")]
        chain = ROOT.RDataFrame("t", files)
        assert values(chain) == list(range(1000))

    @pytest.mark.parametrize("output", [{}, {"fOutputFormat": RNTUPLE}], ids=["TTree", "RNTuple"])
    def test_one_that_fails(self, local, events_file, tmp_path, skim, output):
        """The files of an earlier one stay as they were; what it has left goes with a later one."""
        good = frame_of(events_file).Filter("x < 10").Snapshot("t", skim, ["x"])
        before = names(tmp_path)
        bad = frame_of(events_file).Define("y", 'if (x == 990) throw std::runtime_error("no"); return x;')
        with pytest.raises(UserCodeError, match="no"):
            bad.Snapshot("t", skim, ["y"], options(**output))
        assert values(good) == list(range(10))
        assert [name for name in names(tmp_path) if not name.startswith(".")] == before
        for path in tmp_path.glob(".skim*"):
            os.utime(path, (0, 0))
        frame_of(events_file).Snapshot("t", skim, ["x"])
        assert names(tmp_path) == before

    def test_a_frame_of_files_that_were_replaced(self, local, events_file, skim):
        """Two frames that write to one place: the one that is late has it, and the other is not mistaken."""
        lazy = options(fLazy=True)
        first, second = (frame_of(events_file, n).Snapshot("t", skim, ["x"], lazy) for n in (2, 3))
        first.bookings.run(first)
        assert values(second.GetValue()) == list(range(1000))
        with pytest.raises(InputError, match="replaced since the Snapshot wrote it"):
            first.GetValue()


class TestRefusals:
    """What cannot be right is told at the user's line."""

    def test_two_to_one_place(self, events_file, skim):
        """In one event loop; one after the other they may."""
        frame, lazy = frame_of(events_file), options(fLazy=True)
        first = frame.Snapshot("a", skim, ["x"], lazy)
        with pytest.raises(GraphError, match=r"another Snapshot .* writes .*skim\.root"):
            frame.Snapshot("b", skim, ["pt"], lazy)
        del first
        assert frame.Snapshot("b", skim, ["pt"], lazy) is not None

    @pytest.mark.parametrize("mode", ["UPDATE", "update"])
    def test_adding_to_a_file(self, events_file, skim, mode):
        """Each range has a file of its own."""
        with pytest.raises(GraphError, match=r"fMode='UPDATE'.*hadd"):
            frame_of(events_file).Snapshot("t", skim, ["x"], options(fMode=mode))

    def test_modes(self, local, events_file, skim):
        """NEW and CREATE replace nothing; others are unknown."""
        frame = frame_of(events_file)
        assert frame.Snapshot("t", skim, ["x"], options(fMode="NEW")).Count().GetValue() == 1000
        for mode in ("NEW", "CREATE"):
            with pytest.raises(GraphError, match=r"skim_\d.root is there, which fMode"):
                frame.Snapshot("t", skim, ["x"], options(fMode=mode))
        with pytest.raises(GraphError, match="fMode is 'APPEND'"):
            frame.Snapshot("t", skim, ["x"], options(fMode="APPEND"))

    def test_variations(self, events_file, tmp_path, skim):
        """ROOT marks in a column which of the values are valid, and ranges ignore it."""
        chosen = options(fIncludeVariations=True)

        def book(frame):
            varied = frame.Define("v", "1. * x").Vary("v", "ROOT::RVecD{v - 1, v + 1}", ["down", "up"])
            return varied.Filter("v > 100").Snapshot("s", skim, ["v"], chosen)

        with pytest.raises(GraphError, match=r"fIncludeVariations.*Define the varied values"):
            book(frame_of(events_file))
        book(ROOT.RDataFrame("Events", events_file))
        with pytest.raises(GraphError, match=r"fIncludeVariations wrote this data set \(R_rdf_mask_s_0\)"):
            RDataFrame("s", skim)

    def test_columns_and_directories(self, events_file, tmp_path, skim):
        """Which are not there."""
        with pytest.raises(GraphError, match="no column 'z'"):
            frame_of(events_file).Snapshot("t", skim, ["x", "z"])
        with pytest.raises(GraphError, match=r"there is no directory .*nowhere"):
            frame_of(events_file).Snapshot("t", str(tmp_path / "nowhere" / "a.root"))

    def test_remote_files_that_are_read(self):
        """They have no other name until they are written."""
        operation = type("O", (), {"args": ["t", "root://host//d.root.d/skim.root?a=b", "", options()]})
        read = ["root://host//d.root.d/skim_1.root?a=b"]
        snapshots.place(operation, 1, read, "run")
        with pytest.raises(GraphError, match=r"would write root://host//d.root.d/skim_1.root\?a=b, which"):
            snapshots.place(operation, 2, read, "run")
