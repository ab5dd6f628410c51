"""The analysis of ROOT's tutorial df102_NanoAODDimuonAnalysis, on any of the executions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dask.base import compute

from dask_root_lambda import LambdaCluster, RDataFrame, estimate
from dask_root_lambda.cost.estimate import Estimate
from dask_root_lambda.cost.report import Report
from dask_root_lambda.protocol.errors import InputError

COLUMNS = ("nMuon", "Muon_pt", "Muon_eta", "Muon_phi", "Muon_mass", "Muon_charge")
"""What the analysis reads."""
BINS = 30_000
LOW_GEV = 0.25
HIGH_GEV = 300.0


@dataclass(frozen=True)
class Analysis:
    """What to analyse, and where."""

    files: tuple[str, ...]
    tree: str = "Events"
    execution: str = "emulated"
    npartitions: int | None = None
    """Ranges; None for as many as run at once."""
    concurrency: int | None = None
    """Ranges at once; None leaves it to the execution."""


@dataclass(frozen=True)
class CutFlow:
    """Events after each cut."""

    all_events: int
    two_muons: int
    """Events with exactly two muons."""
    opposite_charge: int
    """Events with two muons of opposite charge."""


@dataclass(frozen=True)
class Outcome:
    """What came out."""

    cut_flow: CutFlow
    mean_mass_gev: float | None
    """Mean mass of the opposite-charge pairs, GeV; None if there are no pairs."""
    spectrum: Any
    """TH1D of their masses, GeV."""
    report: Report


def run(analysis: Analysis) -> Outcome:
    """Run the analysis.

    Raises
    ------
    DaskRootLambdaError
        The files cannot be read, the execution cannot be used, or a range failed for good.
    """
    frame = _frame(analysis)
    cluster = LambdaCluster(execution=analysis.execution, concurrency=analysis.concurrency)
    with cluster, cluster.get_client():
        # One pass over the data for all five.
        n_all, n_two, n_opposite, mean, spectrum = compute(*_book(frame))
        return Outcome(
            CutFlow(n_all, n_two, n_opposite), mean if n_opposite else None, spectrum, cluster.report()
        )


def estimated(analysis: Analysis) -> Estimate:
    """Estimate what the analysis takes and costs; raises as `run` does."""
    frame = _frame(analysis)
    cluster = LambdaCluster(execution=analysis.execution, concurrency=analysis.concurrency)
    with cluster, cluster.get_client():
        booked = _book(frame)
        return estimate(booked[0])


def _frame(analysis: Analysis) -> RDataFrame:
    # Before anything is started: a file that is not there is told at once.
    frame = RDataFrame(analysis.tree, list(analysis.files), npartitions=analysis.npartitions)
    _check_columns(frame, analysis)
    return frame


def _check_columns(frame: RDataFrame, analysis: Analysis) -> None:
    missing = [name for name in COLUMNS if not frame.HasColumn(name)]
    if missing:
        raise InputError(
            f"{analysis.tree!r} of {analysis.files[0]} has no {', '.join(missing)}: the demo analyses "
            "muons as in CMS's NanoAOD"
        )


def _book(frame: RDataFrame) -> tuple[Any, ...]:
    two = frame.Filter("nMuon == 2")
    opposite = two.Filter("Muon_charge[0] != Muon_charge[1]")
    pairs = opposite.Define("mass", "ROOT::VecOps::InvariantMass(Muon_pt, Muon_eta, Muon_phi, Muon_mass)")
    binning = ("dimuon_mass", "", BINS, LOW_GEV, HIGH_GEV)
    return frame.Count(), two.Count(), opposite.Count(), pairs.Mean("mass"), pairs.Histo1D(binning, "mass")
