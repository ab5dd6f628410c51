"""Results as plain numbers and texts, and where two of them differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import ROOT

_RELATIVE = 1e-12


def plain(value: Any, operation: str = "") -> Any:
    """Return a result as numbers, texts, lists and maps.

    Parameters
    ----------
    value
        The result, as ROOT gives it.
    operation
        The action's name.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | float | str):
        # The error of a small deviation is that of its square.
        return value**2 if operation == "StdDev" and isinstance(value, float) else value
    for kind, convert in _CONVERSIONS.items():
        if isinstance(value, kind):
            return convert(value)
    return _by_name(value, operation)


def _by_name(value: Any, operation: str) -> Any:
    """Return what is of a class template of ROOT's, or of Python's."""
    name = type(value).__name__
    if isinstance(value, Mapping):
        return {str(key): plain(each, operation) for key, each in value.items()}
    if hasattr(value, "GetKeys"):
        return {str(key): plain(value[str(key)], operation) for key in value.GetKeys()}
    if "string" in name and "vector" not in name:
        return str(value)
    return [plain(each) for each in value]


def _histogram(histogram: Any) -> Any:
    stats = np.zeros(13)
    histogram.GetStats(stats)
    cells = range(histogram.GetNcells())
    axes = [getattr(histogram, f"Get{axis}axis")() for axis in "XYZ"[: histogram.GetDimension()]]
    edges = [[axis.GetBinLowEdge(number) for number in range(1, axis.GetNbins() + 2)] for axis in axes]
    return {
        "class": histogram.ClassName(),
        "name": [histogram.GetName(), histogram.GetTitle()],
        "edges": edges,
        "contents": [histogram.GetBinContent(cell) for cell in cells],
        "errors": [histogram.GetBinError(cell) for cell in cells],
        "entries": histogram.GetEntries(),
        "sums": [float(number) for number in stats],
    }


def _many_dimensions(histogram: Any) -> Any:
    projection = histogram.Projection(1, 0)
    return {
        "class": histogram.ClassName(),
        "entries": histogram.GetEntries(),
        "contents": [projection.GetBinContent(cell) for cell in range(projection.GetNcells())],
        "errors": [projection.GetBinError(cell) for cell in range(projection.GetNcells())],
    }


def _graph(graph: Any) -> Any:
    errors = [getattr(graph, f"GetError{side}") for side in ("Xlow", "Xhigh", "Ylow", "Yhigh")]
    return {
        "class": graph.ClassName(),
        "points": [[graph.GetPointX(n), graph.GetPointY(n)] for n in range(graph.GetN())],
        "errors": [[error(n) for error in errors] for n in range(graph.GetN())],
    }


def _statistic(statistic: Any) -> Any:
    return {
        "n": statistic.GetN(),
        "weights": statistic.GetW(),
        "mean": statistic.GetMean(),
        "variance": statistic.GetVar() if statistic.GetN() > 1 else 0.0,
        "extremes": [statistic.GetMin(), statistic.GetMax()],
    }


def _cuts(report: Any) -> Any:
    return [[str(cut.GetName()), int(cut.GetPass()), int(cut.GetAll())] for cut in report]


def _table(display: Any) -> Any:
    return str(display.AsString()).splitlines()


def _array(array: Any) -> Any:
    return {"dtype": str(array.dtype), "values": [plain(each) for each in array]}


_CONVERSIONS: dict[Any, Any] = {
    ROOT.TH1: _histogram,
    ROOT.THnBase: _many_dimensions,
    ROOT.TGraph: _graph,
    ROOT.TStatistic: _statistic,
    ROOT.RDF.RCutFlowReport: _cuts,
    ROOT.RDF.RDisplay: _table,
    np.ndarray: _array,
}


def differences(expected: Any, found: Any, scale: float, where: str = "") -> Iterator[str]:
    """Say where two plain results differ.

    Parameters
    ----------
    expected, found
        Local ROOT's, and ours.
    scale
        Numbers may differ by 1e-12 of it, or of themselves; 0 asks for equal bits.
    where
        Place of the results in a larger one.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        if list(expected) != list(found):
            yield f"{where}: {list(found)} instead of {list(expected)}"
            return
        for name in expected:
            yield from differences(expected[name], found[name], scale, f"{where}.{name}" if where else name)
    elif isinstance(expected, list) and isinstance(found, list):
        yield from _of_lists(expected, found, scale, where)
    elif type(expected) is not type(found) or not _equal(expected, found, scale):
        yield f"{where}: {found!r} instead of {expected!r}"


def _of_lists(expected: Sequence[Any], found: Sequence[Any], scale: float, where: str) -> Iterator[str]:
    if len(expected) != len(found):
        yield f"{where}: {len(found)} instead of {len(expected)}"
        return
    for number, (one, other) in enumerate(zip(expected, found, strict=True)):
        yield from differences(one, other, scale, f"{where}[{number}]")


def _equal(expected: Any, found: Any, scale: float) -> bool:
    if not isinstance(expected, float):
        return bool(expected == found)
    if math.isnan(expected) or math.isnan(found):
        return math.isnan(expected) and math.isnan(found)
    if expected == found or not scale:
        return expected == found
    return abs(expected - found) <= _RELATIVE * max(abs(expected), abs(found), scale)
