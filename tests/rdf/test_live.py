"""What there is of results while they are computed: drawn by LiveVisualize, and given to who iterates."""

from __future__ import annotations

import itertools

import pytest
import ROOT

from dask_root_lambda import RDataFrame

from ..conftest import EVENTS

RANGES = 10
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
