"""Histograms, profiles and graphs as plain numbers, which a page can draw without ROOT.

Workers make them, where ROOT is; schedulers and browsers have the numbers only. They are those of the result
to the last bit, but where there are more than a page can show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Kind = Literal["bins", "cells", "points"]

_MOST_BINS = 2_000
"""Most bins of a one-dimensional histogram that are drawn: a screen has no more columns."""
_MOST_CELLS = 100
"""Most bins drawn along each axis of a two-dimensional histogram: browsers draw so many at once."""
_MOST_POINTS = 5_000


@dataclass(frozen=True)
class Shape:
    """What is drawn of a result."""

    kind: Kind
    """Bins of one axis, cells of two, or points with errors: of graphs and of profiles of one axis."""
    columns: Mapping[str, Numbers] = field(repr=False)
    """``left``, ``right``, ``value`` and ``error`` of bins; of cells that are not 0, ``bottom`` and ``top``
    as well; ``x``, ``y``, ``left``, ``right``, ``low`` and ``high`` of points."""
    title: str = ""
    x_title: str = ""
    y_title: str = ""
    note: str = ""
    """What is not shown, where there is too much."""

    def plain(self) -> dict[str, Any]:
        """Return it for JSON, which knows no infinity."""
        columns = {
            name: [each if math.isfinite(each) else None for each in column.tolist()]
            for name, column in self.columns.items()
        }
        return {**vars(self), "columns": columns}


def of(value: Any) -> Shape:
    """Make the shape of ROOT's object: a histogram, profile or graph of up to two dimensions."""
    if value.InheritsFrom("TGraph"):
        columns, coarser = _points(value)
        note = f"1 of {coarser} points" if coarser > 1 else ""
        return Shape("points", columns, *_graph_titles(value), note)
    if value.GetDimension() == 2:
        columns, coarser = _cells(value)
        return Shape("cells", columns, *_titles(value), _bins_as_one(coarser))
    columns, coarser = _bins(value)
    kind: Kind = "points" if "x" in columns else "bins"
    return Shape(kind, columns, *_titles(value), _bins_as_one(coarser))


def _bins_as_one(coarser: int) -> str:
    return f"{coarser} bins as one" if coarser > 1 else ""


def _titles(value: Any) -> tuple[str, str, str]:
    return str(value.GetTitle()), str(value.GetXaxis().GetTitle()), str(value.GetYaxis().GetTitle())


def _graph_titles(graph: Any) -> tuple[str, str, str]:
    """Return the titles of a graph, which gets its axes when it is drawn."""
    title, x_title, y_title = (*str(graph.GetTitle()).split(";"), "", "", "")[:3]
    return title, x_title, y_title


def _bins(histogram: Any) -> tuple[dict[str, Numbers], int]:
    n_bins = histogram.GetNbinsX()
    edges, values = _edges(histogram.GetXaxis()), np.array(histogram.values(), dtype=np.float64)
    errors = np.array([histogram.GetBinError(each) for each in range(1, n_bins + 1)])
    weights = _weights(histogram, values)
    coarser = math.ceil(n_bins / _MOST_BINS)
    if coarser > 1:
        starts = np.arange(0, n_bins, coarser)
        values = _together(values, weights, starts)
        # Of bins of a profile, the errors would need the squares.
        errors = np.sqrt(np.add.reduceat(errors**2, starts)) if weights is None else np.zeros(len(starts))
        weights = None if weights is None else np.add.reduceat(weights, starts)
        edges = np.append(edges[starts], edges[-1])
    columns = {"left": edges[:-1], "right": edges[1:], "value": values, "error": errors}
    return columns if weights is None else _profile_points(columns, weights), coarser


def _cells(histogram: Any) -> tuple[dict[str, Numbers], int]:
    values = np.array(histogram.values(), dtype=np.float64)
    edges = [_edges(histogram.GetXaxis()), _edges(histogram.GetYaxis())]
    weights = _weights(histogram, values)
    coarser = max(math.ceil(length / _MOST_CELLS) for length in values.shape)
    if coarser > 1:
        for axis in (0, 1):
            starts = np.arange(0, values.shape[axis], coarser)
            values, weights = (
                _together(values, weights, starts, axis),
                None if weights is None else np.add.reduceat(weights, starts, axis=axis),
            )
            edges[axis] = np.append(edges[axis][starts], edges[axis][-1])
    x, y = np.nonzero(values)
    return {
        "left": edges[0][x],
        "right": edges[0][x + 1],
        "bottom": edges[1][y],
        "top": edges[1][y + 1],
        "value": values[x, y],
    }, coarser


def _points(graph: Any) -> tuple[dict[str, Numbers], int]:
    n_points = graph.GetN()
    coarser = math.ceil(n_points / _MOST_POINTS) or 1
    shown = range(0, n_points, coarser)
    x, y = (
        np.array([get(each) for each in shown], dtype=np.float64)
        for get in (graph.GetPointX, graph.GetPointY)
    )
    # ROOT says -1 of a graph without errors.
    x_low, x_high, y_low, y_high = (
        np.maximum(0.0, np.array([get(each) for each in shown], dtype=np.float64))
        for get in (graph.GetErrorXlow, graph.GetErrorXhigh, graph.GetErrorYlow, graph.GetErrorYhigh)
    )
    sides = {"left": x - x_low, "right": x + x_high, "low": y - y_low, "high": y + y_high}
    return {"x": x, "y": y, **sides}, coarser


def _profile_points(bins: Mapping[str, Numbers], weights: Numbers) -> dict[str, Numbers]:
    """Return the points of a profile: its bins that have entries."""
    left, right, value, error = (bins[name][weights != 0] for name in ("left", "right", "value", "error"))
    sides = {"left": left, "right": right, "low": value - error, "high": value + error}
    return {"x": (left + right) / 2, "y": value, **sides}


def _edges(axis: Any) -> Numbers:
    n_bins = axis.GetNbins()
    if axis.IsVariableBinSize():
        return np.array([axis.GetBinLowEdge(each) for each in range(1, n_bins + 2)])
    return np.linspace(axis.GetXmin(), axis.GetXmax(), n_bins + 1)


def _weights(histogram: Any, values: Numbers) -> Numbers | None:
    """Return by what the bins of a profile count when they are shown together; None of other histograms."""
    if not histogram.InheritsFrom("TProfile") and not histogram.InheritsFrom("TProfile2D"):
        return None
    if values.ndim == 1:
        return np.array([histogram.GetBinEntries(each + 1) for each in range(len(values))])
    return np.array(
        [
            [histogram.GetBinEntries(histogram.GetBin(x + 1, y + 1)) for y in range(values.shape[1])]
            for x in range(values.shape[0])
        ]
    )


def _together(values: Numbers, weights: Numbers | None, starts: NDArray[np.int64], axis: int = 0) -> Numbers:
    """Add up neighbouring bins; of a profile, take their mean."""
    if weights is None:
        return np.add.reduceat(values, starts, axis=axis)
    total = np.add.reduceat(weights, starts, axis=axis)
    sums = np.add.reduceat(values * weights, starts, axis=axis)
    return np.divide(sums, total, out=np.zeros_like(sums), where=total != 0)
