"""Results on the page: they fill while a run goes on, and the last picture is exactly the result."""

from __future__ import annotations

import json
import time

import dask
import numpy as np
import pytest
import ROOT
from distributed import LocalCluster

from dask_root_lambda import LambdaPlugin, RDataFrame
from dask_root_lambda.dashboard import gallery, shapes
from dask_root_lambda.dashboard.finished import Finished
from dask_root_lambda.plan.space import RunSpace
from dask_root_lambda.plan.steps import Finish
from dask_root_lambda.protocol import wire

from . import dashboards

DEADLINE_S = 120.0


def pictures(cluster):
    return json.loads(dashboards.get(cluster, "/lambda/histograms.json"))


def of_run(cluster, name):
    """Return the newest picture of a name, or None."""
    return next((each for each in pictures(cluster) if each["name"] == name), None)


def booked(npartitions, sleep_ms, name):
    frame = RDataFrame(npartitions * 10, npartitions=npartitions)
    frame = frame.Define("x", f"gSystem->Sleep({sleep_ms}); return double(rdfentry_ % 7);")
    frame = frame.Define("w", "1.0 + rdfentry_ % 3")
    return {
        "Histo1D": frame.Histo1D((name, "", 10, 0.0, 10.0), "x", "w"),
        "Histo2D": frame.Histo2D((f"{name}_2d", "", 5, 0.0, 10.0, 4, 0.0, 4.0), "x", "w"),
        "Profile1D": frame.Profile1D((f"{name}_profile", "", 10, 0.0, 10.0), "x", "w"),
        "Graph": frame.Graph("x", "w"),
        "Count": frame.Count(),
    }


def watched(cluster, future, name):
    """Return the pictures of a name that were seen before its run was done, and after that the last one."""
    seen, deadline = [], time.monotonic() + DEADLINE_S
    while not (seen and seen[-1]["complete"]):
        assert time.monotonic() < deadline, (future.status, seen[-1:])
        if (picture := of_run(cluster, name)) is not None and picture not in seen[-1:]:
            seen.append(picture)
        time.sleep(0.05)
    return seen


@pytest.mark.parametrize("fan_in", [2, 100])
def test_they_fill_and_end_as_the_result(local, fan_in, monkeypatch):
    """However they are computed: each update has more entries; the last has the result's bins."""
    # A busy machine would make fewer.
    monkeypatch.setattr(gallery, "_COST_SHARE", 1.0)
    name = f"filling{fan_in}"
    with local.get_client() as client, dask.config.set({"dask-root-lambda.fan-in": fan_in}):
        results = booked(24, 50, name)
        first, *_ = futures = client.compute(list(results.values()))
        seen = watched(local, first, name)
        histogram, two, profile, graph, n = client.gather(futures)
    # The last of them may have all entries as well, before the run says that it is done.
    shares = [each["share"] for each in seen[:-1]]
    assert shares == sorted(set(shares))
    assert len(shares) >= 5
    assert [each["complete"] for each in seen] == [False] * (len(seen) - 1) + [True]
    *sums, whole = [sum(each["shape"]["columns"]["value"]) for each in seen]
    assert sums == sorted(set(sums))
    assert sums[-1] <= whole
    for share, total in zip(shares, sums, strict=True):
        # The mean weight of a range is near that of all.
        assert total == pytest.approx(share * whole, rel=0.2)
    assert n == 240
    columns = seen[-1]["shape"]["columns"]
    assert columns["value"] == [histogram.GetBinContent(each) for each in range(1, 11)]
    assert columns["error"] == [histogram.GetBinError(each) for each in range(1, 11)]
    assert shown(local, f"{name}_2d") == plain(two)
    assert shown(local, f"{name}_profile") == plain(profile)
    assert shown(local, "Graph(x, w)") == plain(graph)


def shown(cluster, name):
    return of_run(cluster, name)["shape"]


def plain(value):
    return shapes.of(value).plain()


def test_touched_results_and_nobody_who_looked(local):
    """A result that was computed while nobody looked is shown later, when Dask has forgotten it."""
    with local.get_client():
        histogram = booked(3, 0, "touched")["Histo1D"].GetValue()
        deadline = time.monotonic() + DEADLINE_S
        while (picture := of_run(local, "touched")) is None:
            assert time.monotonic() < deadline
    assert picture["complete"]
    assert picture["shape"] == plain(histogram)


def test_a_run_that_is_computed_again_fills_again(local, tmp_path):
    """The same analysis once more is seen as it gets on, not as it was."""
    gate = tmp_path / "gate"
    wait = f'while (rdfentry_ >= 110 && !gSystem->AccessPathName("{gate}")) gSystem->Sleep(20);'
    with local.get_client() as client:
        for _ in range(2):
            gate.touch()
            frame = RDataFrame(120, npartitions=12).Define("x", f"{wait} return double(rdfentry_ % 7);")
            histogram = frame.Histo1D(("again", "", 10, 0.0, 10.0), "x")
            future = client.compute(histogram)
            deadline = time.monotonic() + DEADLINE_S
            try:
                while (picture := of_run(local, "again")) is None or picture["complete"]:
                    assert time.monotonic() < deadline, future.status
            finally:
                gate.unlink()
            assert 0 < picture["share"] < 1
            future.result()
            while not of_run(local, "again")["complete"]:
                assert time.monotonic() < deadline
            del future, histogram


def test_results_of_the_last_time_that_are_told_late(local, tmp_path, monkeypatch):
    """They are shown for a moment, and do not stand for those of the run that goes on."""
    monkeypatch.setattr(gallery, "_LATE_S", 0.2)
    gates = {6: tmp_path / "first", 9: tmp_path / "second"}
    ROOT.gInterpreter.Declare("std::atomic<int> ranges_begun{0};")
    closed = " || ".join(
        f'(begun >= {n_ranges} && !gSystem->AccessPathName("{gate}"))' for n_ranges, gate in gates.items()
    )
    wait = f"if (rdfentry_ % 10 == 0) {{ int begun = ranges_begun++; while ({closed}) gSystem->Sleep(20); }}"
    for gate in gates.values():
        gate.touch()
    frame = RDataFrame(120, npartitions=12).Define("x", f"{wait} return double(rdfentry_ % 7);")
    deadline = time.monotonic() + DEADLINE_S

    def shows(complete, share):
        while True:
            picture = of_run(local, "late")
            if picture is not None and (picture["complete"], picture["share"]) == (complete, share):
                return picture
            assert time.monotonic() < deadline, (future.status, picture)
            time.sleep(0.05)

    try:
        with local.get_client() as client:
            future = client.compute(frame.Histo1D(("late", "", 10, 0.0, 10.0), "x"))
            key = shows(complete=False, share=6 / 12)["run"]
            finish = Finish(RunSpace("run", b"key", "session"), 0, 10, drawn=((0, "late"),))
            blob = wire.dumps(Mergeable(ROOT.TH1D("late", "", 10, 0.0, 10.0)))
            local.workers[0].plugins["dask-root-lambda"]._drawn.keep(key, finish, [blob])
            shows(complete=True, share=1.0)
            gates[6].unlink()
            shows(complete=False, share=9 / 12)
            gates[9].unlink()
            future.result(DEADLINE_S)
            shows(complete=True, share=1.0)
    finally:
        for gate in gates.values():
            gate.unlink(missing_ok=True)


def test_several_workers():
    """Of a run on several workers, in other processes, the pictures have what all of them have."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        cluster.get_client() as client,
    ):
        client.register_plugin(LambdaPlugin(execution="local"))
        future = client.compute(booked(24, 50, "spread")["Histo1D"])
        seen = watched(cluster, future, "spread")
        assert len({each["share"] for each in seen}) >= 3
        assert seen[-1]["shape"] == plain(future.result())


def test_results_with_nothing_to_draw_cost_nothing(local):
    """Numbers and arrays are not drawn: no picture, and nothing that is kept."""
    plugin = local.workers[0].plugins["dask-root-lambda"]
    with local.get_client():
        before = dict(plugin._drawn._kept)
        assert RDataFrame(10, npartitions=2).Count().GetValue() == 10
        assert plugin._drawn._kept == before


def test_what_is_kept_is_bounded():
    """Of many runs, the last are kept, and none that is too large."""
    finish = Finish(RunSpace("run", b"key", "session"), 0, 10, drawn=((1, "h"),))
    kept = Finished()
    histogram = ROOT.TH1D("h", "", 4, 0.0, 1.0)
    blob = wire.dumps(Mergeable(histogram))
    for number in range(20):
        kept.keep(f"run-{number}", finish, [b"not drawn", blob])
    kept.keep("large", finish, [b"", b"x" * 40_000_000])
    told = wire.loads(kept.told(()))
    assert [each.run for each in told.values()] == [f"run-{number}" for number in range(12, 20)]
    assert kept.told(list(told)) is None


def test_a_result_that_cannot_be_drawn_hides_no_other():
    """What cannot be unpickled is left out, and not tried again; the results of other runs are told."""
    finish = Finish(RunSpace("run", b"key", "session"), 0, 10, drawn=((0, "h"),))
    kept = Finished()
    kept.keep("broken", finish, [b"no blob"])
    kept.keep("whole", finish, [wire.dumps(Mergeable(ROOT.TH1D("whole", "", 4, 0.0, 1.0)))])
    (told,) = wire.loads(kept.told(())).values()
    assert (told.run, told.names) == ("whole", ("h",))
    assert len(kept._kept) == 1


class Mergeable:
    """Stands in for ROOT's mergeable object."""

    def __init__(self, value):
        self.value = value

    def GetValue(self):
        return self.value


def test_bins_of_any_width_and_more_than_a_screen_has():
    """Edges are the axis's; 30,000 bins are shown as 2,000, with the sum of each group."""
    edges = np.array([0.0, 1.0, 10.0, 100.0])
    uneven = ROOT.TH1D("uneven", "title;x;y", 3, edges)
    uneven.Fill(5.0)
    shape = shapes.of(uneven)
    assert (shape.title, shape.x_title, shape.y_title, shape.note) == ("title", "x", "y", "")
    assert [*shape.columns["left"], shape.columns["right"][-1]] == list(edges)
    assert list(shape.columns["value"]) == [0.0, 1.0, 0.0]
    fine = ROOT.TH1D("fine", "", 30_000, 0.25, 300.0)
    fine.FillRandom("gaus", 10_000)
    coarse = shapes.of(fine)
    rebinned = fine.Rebin(15, "rebinned")
    assert coarse.note == "15 bins as one"
    assert list(coarse.columns["value"]) == [rebinned.GetBinContent(each) for each in range(1, 2001)]
    assert coarse.columns["right"][-1] == 300.0


def test_bins_that_do_not_divide_evenly_are_all_shown():
    """The last group is smaller, and nothing is lost."""
    fine = ROOT.TH1D("odd", "", 4_003, 0.0, 1.0)
    for each in range(4_003):
        fine.SetBinContent(each + 1, 1.0)
    columns = shapes.of(fine).columns
    assert columns["value"].sum() == 4_003
    assert columns["right"][-1] == 1.0


def test_profiles_shown_coarser_keep_their_means():
    """Groups of bins of a profile have the mean of their entries, as ROOT's own rebinning."""
    profile = ROOT.TProfile("fine_profile", "", 4_000, 0.0, 1.0)
    for each in range(9_000):
        profile.Fill((each % 997) / 997, each % 13)
    columns = shapes.of(profile).columns
    rebinned = profile.Rebin(2, "rebinned_profile")
    bins = [each for each in range(1, 2001) if rebinned.GetBinEntries(each)]
    assert list(columns["y"]) == pytest.approx([rebinned.GetBinContent(each) for each in bins])
    assert list(columns["x"]) == pytest.approx([rebinned.GetBinCenter(each) for each in bins])
    assert 0 < len(bins) < 2_000


def test_two_dimensions_have_their_cells_that_are_not_empty():
    """Cells have the content of their bins; 300 by 300 are shown as 100 by 100."""
    small = ROOT.TH2D("small", "", 3, 0.0, 3.0, 2, 0.0, 2.0)
    small.Fill(1.5, 0.5, 4.0)
    columns = {name: list(column) for name, column in shapes.of(small).columns.items()}
    assert columns == {"left": [1.0], "right": [2.0], "bottom": [0.0], "top": [1.0], "value": [4.0]}
    large = ROOT.TH2D("large", "", 300, 0.0, 1.0, 300, 0.0, 1.0)
    for each in range(300):
        large.Fill((each + 0.5) / 300, (each + 0.5) / 300)
    coarse = shapes.of(large)
    assert coarse.note == "3 bins as one"
    assert list(coarse.columns["value"]) == [3.0] * 100


def test_graphs_have_their_errors():
    """Points and errors on both sides; a graph without errors has none."""
    graph = ROOT.TGraphAsymmErrors(1)
    graph.SetPoint(0, 1.0, 2.0)
    graph.SetPointError(0, 0.1, 0.2, 0.3, 0.4)
    columns = {name: list(column) for name, column in shapes.of(graph).columns.items()}
    assert columns == {"x": [1.0], "y": [2.0], "left": [0.9], "right": [1.2], "low": [1.7], "high": [2.4]}
    bare = ROOT.TGraph(1)
    bare.SetPoint(0, 1.0, 2.0)
    assert list(shapes.of(bare).columns["high"]) == [2.0]
    assert shapes.of(ROOT.TGraph(0)).columns["x"].size == 0
