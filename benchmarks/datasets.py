"""The datasets and the graph that the benchmarks run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from dask_root_lambda import RDataFrame
from dask_root_lambda.demo import generator
from dask_root_lambda.plan.steps import PackedMapper
from dask_root_lambda.rdf import packing

TREE = "Events"
_SHARED = Path(__file__).resolve().parents[2] / "shared"
_EVENTS_PER_REPLICA = 100_000


def dimuon_file(events: int) -> Path:
    """Return a file of ``events`` dimuon events, in clusters of 25,000 at most, made if it is not there.

    Of CMS data where they are beside the project and ``events`` is a multiple of theirs, else of the demo's
    generator. It is kept in the user's cache directory.
    """
    script = _SHARED / "tools" / "make_dimuon_dataset.py"
    replicas, rest = divmod(events, _EVENTS_PER_REPLICA)
    generated = generator.location(events)
    if rest or not script.exists():
        return generator.dataset(events)
    path = generated.with_name(f"dimuon-cms-{events}.root")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.root")
        subprocess.run([sys.executable, str(script), str(partial), str(replicas)], check=True, text=True)
        partial.replace(path)
    return path


def book(frame: Any) -> tuple[Any, Any]:
    """Book the dimuon spectrum and the number of pairs, on a frame of ROOT's or of ours."""
    pairs = frame.Filter("nMuon == 2").Filter("Muon_charge[0] != Muon_charge[1]")
    mass = pairs.Define("mass", "ROOT::VecOps::InvariantMass(Muon_pt, Muon_eta, Muon_phi, Muon_mass)")
    return mass.Histo1D(("mass", "", 30000, 0.25, 300), "mass"), mass.Count()


def packed(files: list[str], n_ranges: int) -> PackedMapper:
    """Pack the dimuon graph over ``files`` as for a run."""
    frame = RDataFrame(TREE, files, npartitions=n_ranges)
    return unkept(packing.pack(frame._headnode, [result.node for result in book(frame)], n_ranges).mapper)


def unkept(mapper: PackedMapper) -> PackedMapper:
    """Return a mapper of which nothing is kept: each turn of a benchmark runs its ranges."""
    return replace(mapper, space=replace(mapper.space, not_reused="a benchmark"))


def values(histogram: Any) -> list[float]:
    """Return entries, mean and every bin of a histogram, for comparison."""
    bins = [histogram.GetBinContent(index) for index in range(histogram.GetNcells())]
    return [histogram.GetEntries(), histogram.GetMean(), *bins]
