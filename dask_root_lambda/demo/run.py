"""The demo from its options to its files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dask_root_lambda.cost.estimate import Estimate
from dask_root_lambda.demo import analysis, bucket, plot
from dask_root_lambda.demo.analysis import Analysis, Outcome
from dask_root_lambda.demo.dataset import Dataset, choose
from dask_root_lambda.protocol.errors import ConfigurationError

PLOTS = ("dimuon_spectrum.pdf", "dimuon_spectrum.png")
_WIDTH = 20
"""Width of the names in the text, characters."""
_DIGITS = 10
"""Significant digits of the mean mass."""


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    files: Sequence[str] | None = None
    """Names or URLs; None generates events, or under ``lambda`` reads CERN's."""
    tree: str = "Events"
    events: int | None = None
    """Events to generate; None for the default."""
    execution: str = "emulated"
    npartitions: int | None = None
    """Ranges; None leaves it to the dataset."""
    concurrency: int | None = None
    """Ranges at once; None leaves it to the execution."""
    via: str | None = None
    """``s3`` reads what was generated from an emulated S3; None from the disk."""
    output: Path = Path()
    """Directory of the plots."""
    json: Path | None = None
    """File for the figures."""


def run(request: Request, say: Callable[[str], None]) -> Outcome:
    """Run the demo; ``say`` is given each piece of text for the user.

    Raises
    ------
    DaskRootLambdaError
        A file cannot be read or written, the execution cannot be used, or a range failed for good.
    """
    _make_output(request)
    _check_writable([request.output / name for name in PLOTS], request)
    _check_via(request)
    dataset = choose(request.files, request.events, request.execution)
    with _placed(dataset, request.via) as dataset:
        say(f"{'dataset':<{_WIDTH}}{dataset.name}")
        outcome = analysis.run(_analysis(request, dataset))
    say(f"\n{_table(outcome)}\n\n{outcome.report}\n")
    plots = [request.output / name for name in PLOTS]
    plot.save(outcome.spectrum, plots, title=dataset.title, note=dataset.note)
    if request.json is not None:
        request.json.write_text(json.dumps(_figures(dataset, request, outcome), indent=2) + "\n")
    written = [*plots, request.json] if request.json is not None else plots
    say(f"wrote {', '.join(map(str, written))}")
    return outcome


def estimate(request: Request, say: Callable[[str], None]) -> Estimate:
    """Estimate what the demo takes and costs, by running a few of its ranges; raises as `run` does."""
    _check_writable([], request)
    _check_via(request)
    dataset = choose(request.files, request.events, request.execution)
    with _placed(dataset, request.via) as dataset:
        say(f"{'dataset':<{_WIDTH}}{dataset.name}")
        found = analysis.estimated(_analysis(request, dataset))
    say(f"\n{found}\n")
    if request.json is not None:
        request.json.write_text(json.dumps(found.to_dict(), indent=2) + "\n")
    return found


def _analysis(request: Request, dataset: Dataset) -> Analysis:
    return Analysis(
        dataset.files,
        request.tree,
        request.execution,
        dataset.npartitions if request.npartitions is None else request.npartitions,
        request.concurrency,
    )


def _check_via(request: Request) -> None:
    if request.via is not None and (request.files or request.execution == "lambda"):
        raise ConfigurationError(
            f"--via {request.via} is for generated events, under --execution emulated or local. Files "
            "in S3 are read with --files s3://BUCKET/KEY"
        )


@contextmanager
def _placed(dataset: Dataset, via: str | None) -> Iterator[Dataset]:
    """Put a dataset where it is to be read from, while in the block."""
    if via is None:
        yield dataset
        return
    with bucket.holding(Path(dataset.files[0])) as name:
        yield replace(dataset, files=(name,), name=f"{dataset.name}, put to {name}")


def _make_output(request: Request) -> None:
    try:
        request.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the directory {request.output}: {error.strerror}") from error


def _check_writable(plots: Sequence[Path], request: Request) -> None:
    """Find out before anything runs that plots, or the figures, could not be written."""
    for path in (*plots, request.json) if request.json is not None else plots:
        parent_good = path.parent.is_dir() and os.access(path.parent, os.W_OK)
        if path.is_dir() or not (os.access(path, os.W_OK) if path.exists() else parent_good):
            raise ConfigurationError(f"cannot write {path}: check that its directory exists and is yours")


def _table(outcome: Outcome) -> str:
    flow, mean = outcome.cut_flow, outcome.mean_mass_gev
    rows = (
        ("all events", flow.all_events, None),
        ("exactly two muons", flow.two_muons, flow.all_events),
        ("opposite charge", flow.opposite_charge, flow.two_muons),
    )
    lines = [f"{name:<{_WIDTH}}{count:>14,}{_share(count, of)}" for name, count, of in rows]
    mass = "no pairs" if mean is None else f"{mean:#.{_DIGITS}g} GeV"
    return "\n".join((*lines, f"{'mean mass':<{_WIDTH}}{mass}"))


def _share(count: int, of: int | None) -> str:
    return f"{count / of:>8.1%}" if of else ""


def _figures(dataset: Dataset, request: Request, outcome: Outcome) -> dict[str, Any]:
    return {
        "files": list(dataset.files),
        "tree": request.tree,
        "execution": request.execution,
        "cut_flow": asdict(outcome.cut_flow),
        "mean_mass_gev": outcome.mean_mass_gev,
        "report": outcome.report.to_dict(),
    }
