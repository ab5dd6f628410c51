"""The dimuon spectrum as a picture."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ROOT

from dask_root_lambda.demo.resonances import RESONANCES, Resonance

_WIDTH, _HEIGHT = 1000, 750
_FONT = 42
"""Helvetica, as in most papers of the field."""
_BIN_RATIO = 1.01
"""Ratio of the edges of a bin: about the mass resolution."""
_MIN_WINDOW = 0.03
"""Half the width of a resonance's window, as a part of its mass: three times the resolution."""
_SIGNIFICANCE = 5.0
"""A resonance is labelled if it stands out by so many standard deviations."""


def save(spectrum: Any, paths: Sequence[Path], *, title: str, note: str = "") -> None:
    """Draw a spectrum into files.

    Parameters
    ----------
    spectrum
        TH1 of dimuon masses, GeV, in bins of one width.
    paths
        Files to write; the suffix decides on the format.
    title
        What the data is; at the top left.
    note
        At the top right.
    """
    batch, level = ROOT.gROOT.IsBatch(), ROOT.gErrorIgnoreLevel
    ROOT.gROOT.SetBatch(True)
    ROOT.gErrorIgnoreLevel = ROOT.kWarning
    try:
        # Names keep the drawn objects alive until the files are written.
        canvas, histogram = _canvas(), density(spectrum)
        _draw(histogram)
        _write(title, note)
        _label(spectrum, histogram)
        for path in paths:
            canvas.SaveAs(str(path))
        canvas.Close()
    finally:
        ROOT.gROOT.SetBatch(batch)
        ROOT.gErrorIgnoreLevel = level


def density(spectrum: Any) -> Any:
    """Rebin a spectrum for a logarithmic axis, and divide each bin by its width.

    Bins become wider by 1%, and at least as wide as the spectrum's.
    """
    axis = spectrum.GetXaxis()
    fine = [axis.GetBinLowEdge(index) for index in range(1, spectrum.GetNbinsX() + 2)]
    edges = array("d", log_edges(fine, _BIN_RATIO))
    rebinned = spectrum.Rebin(len(edges) - 1, f"{spectrum.GetName()}_density", edges)
    rebinned.SetDirectory(ROOT.nullptr)
    rebinned.Scale(1.0, "width")
    return rebinned


def log_edges(edges: Sequence[float], ratio: float) -> Iterator[float]:
    """Choose some of the edges, each next one larger by ``ratio`` at least; the first and the last stay."""
    index = 0
    while index < len(edges) - 1:
        yield edges[index]
        index = max(index + 1, bisect.bisect_left(edges, edges[index] * ratio))
    yield edges[-1]


def peaks(spectrum: Any) -> Iterator[tuple[str, float, float]]:
    """Find the resonances that can be seen: their label, and from where to where in GeV."""
    for label, group in itertools.groupby(RESONANCES, lambda resonance: resonance.label):
        low, high = _window(tuple(group))
        if _stands_out(spectrum, low, high):
            yield label, low, high


def _stands_out(spectrum: Any, low: float, high: float) -> bool:
    """Compare the pairs in a window with those expected from what is on both sides of it."""
    first, last = (spectrum.GetXaxis().FindFixBin(edge) for edge in (low, high))
    n_inside = last - first + 1
    n_side = max(n_inside // 2, 1)
    inside = spectrum.Integral(first, last)
    beside = spectrum.Integral(first - n_side, first - 1) + spectrum.Integral(last + 1, last + n_side)
    ratio = n_inside / (2 * n_side)
    variance = inside + ratio**2 * beside
    return bool(inside - ratio * beside > _SIGNIFICANCE * variance**0.5)


def _canvas() -> Any:
    canvas = ROOT.TCanvas("dimuon_spectrum", "", _WIDTH, _HEIGHT)
    canvas.SetLogx()
    canvas.SetLogy()
    canvas.SetTicks(1, 1)
    canvas.SetMargin(0.105, 0.03, 0.125, 0.075)
    return canvas


def _draw(histogram: Any) -> None:
    histogram.SetStats(False)
    histogram.SetTitle(";m_{#mu#mu} [GeV];Opposite-charge pairs / GeV")
    histogram.SetLineColor(ROOT.kAzure + 2)
    histogram.SetFillColorAlpha(ROOT.kAzure + 2, 0.25)
    highest = histogram.GetMaximum()
    histogram.GetYaxis().SetRangeUser(_lowest(histogram) / 2, max(highest, 1) * 8)
    for axis, offset in ((histogram.GetXaxis(), 1.15), (histogram.GetYaxis(), 1.05)):
        axis.SetTitleFont(_FONT)
        axis.SetLabelFont(_FONT)
        axis.SetTitleSize(0.048)
        axis.SetLabelSize(0.042)
        axis.SetTitleOffset(offset)
    histogram.GetXaxis().SetNoExponent()
    histogram.GetXaxis().SetLabelOffset(0.0)
    histogram.Draw("HIST")


def _lowest(histogram: Any) -> float:
    contents = (float(histogram.GetBinContent(index)) for index in range(1, histogram.GetNbinsX() + 1))
    return min((value for value in contents if value > 0), default=0.1)


def _write(title: str, note: str) -> None:
    text = ROOT.TLatex()
    text.SetNDC()
    text.SetTextFont(_FONT)
    text.SetTextSize(0.045)
    text.DrawLatex(0.107, 0.94, f"#bf{{{title}}}")
    text.SetTextAlign(31)
    text.SetTextSize(0.038)
    text.DrawLatex(0.968, 0.94, note)


def _label(spectrum: Any, histogram: Any) -> None:
    """Write the name of each resonance that can be seen above its peak."""
    text = ROOT.TLatex()
    text.SetTextFont(_FONT)
    text.SetTextSize(0.038)
    text.SetTextAlign(21)
    for name, low, high in peaks(spectrum):
        text.DrawLatex((low * high) ** 0.5, 1.3 * _highest(histogram, low, high), name)


def _window(group: Sequence[Resonance]) -> tuple[float, float]:
    # Of particles under one label the narrow ones are the peak.
    reach = min(max(_MIN_WINDOW, each.width_gev / each.mass_gev) for each in group)
    masses = [each.mass_gev for each in group]
    return min(masses) * (1 - reach), max(masses) * (1 + reach)


def _highest(histogram: Any, low: float, high: float) -> float:
    axis = histogram.GetXaxis()
    bins = range(axis.FindFixBin(low), axis.FindFixBin(high) + 1)
    return max(float(histogram.GetBinContent(index)) for index in bins)
