"""Pictures of histograms, profiles and graphs, of all their entries or of those that there are so far."""

from __future__ import annotations

import math
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import ROOT

Kind = Literal["png", "svg"]

_WIDTH, _HEIGHT = 700, 450
"""Size of a pad, pixels."""
_NOTE_SIZE = 0.035
"""Height of the text that tells the share of entries, as a part of the pad."""

_drawing = threading.RLock()
"""Held to draw: ROOT's current pad and its lists are the process's."""


def picture(value: Any, *, share: float | None = None, kind: Kind = "svg") -> bytes:
    """Draw a histogram, profile or graph.

    Parameters
    ----------
    value
        What is drawn; it stays as it is.
    share
        Of the entries in it, from 0 to 1, which is written beside; None for nothing.
    kind
        ``svg``, or ``png``, which is smaller where there are many bins in two dimensions.
    """
    with _drawing, _in_batch(), _current_pad():
        canvas = Canvas(1)
        try:
            canvas.draw([value], share)
            return canvas.saved(kind)
        finally:
            canvas.close()


class Canvas:
    """A canvas with a pad for each of several values.

    Parameters
    ----------
    n_pads
        How many.
    """

    def __init__(self, n_pads: int) -> None:
        columns = math.ceil(math.sqrt(n_pads))
        rows = math.ceil(n_pads / columns)
        # The name is an identity among ROOT's canvases: one of the same name would take this one's place.
        name = f"dask_root_lambda_{uuid.uuid4().hex}"
        self._canvas = ROOT.TCanvas(name, "", _WIDTH * columns, _HEIGHT * rows)
        self._divided = n_pads > 1
        if self._divided:
            self._canvas.Divide(columns, rows)
        self._drawn: list[Any] = []

    def draw(
        self, values: Sequence[Any], share: float | None, prepare: Callable[[int], None] = lambda _: None
    ) -> None:
        """Draw the values in place of those before.

        Parameters
        ----------
        values
            As many as there are pads.
        share
            Of the entries in them; None for nothing.
        prepare
            Called with the place of each value before it is drawn, when its pad is the current one.
        """
        kept: list[Any] = []
        for place, value in enumerate(values):
            pad = self._canvas.cd(place + 1) if self._divided else self._canvas.cd()
            pad.Clear()
            prepare(place)
            pad.cd()
            value.Draw(_option(value))
            kept.append(value)
            if share is not None:
                kept.append(_note(share))
            pad.Modified()
            pad.Update()
        # ROOT draws what Python holds; what was drawn before is not drawn any more.
        self._drawn = kept

    def saved(self, kind: Kind) -> bytes:
        """Return the picture."""
        with tempfile.TemporaryDirectory(prefix="dask-root-lambda-") as folder:
            path = Path(folder) / f"picture.{kind}"
            with _quiet():
                self._canvas.SaveAs(str(path))
            return path.read_bytes()

    def close(self) -> None:
        """Close it."""
        self._canvas.Close()
        self._drawn = []


class Screen:
    """Where somebody looks while results are computed: a picture in a notebook, else ROOT's window.

    Parameters
    ----------
    n_pads
        Values to draw.
    """

    def __init__(self, n_pads: int) -> None:
        self._handle: Any = None
        self._in_notebook = in_notebook()
        with _drawing, _current_pad(), _in_batch(self._in_notebook):
            self._canvas = Canvas(n_pads)
            # The first drawing of a process takes a third of a second, for fonts and the like.
            blank = ROOT.TH1D("", "", 1, 0.0, 1.0)
            blank.SetDirectory(ROOT.nullptr)
            self._canvas.draw([blank], None)

    def draw(self, values: Sequence[Any], share: float, prepare: Callable[[int], None]) -> None:
        """Draw the values in place of those before, with the share of entries in them; see `Canvas.draw`."""
        with _drawing, _current_pad(), _in_batch(self._in_notebook):
            self._canvas.draw(values, share, prepare)
            if self._in_notebook:
                flat = any(isinstance(value, ROOT.TH1) and value.GetDimension() > 1 for value in values)
                self._display(self._canvas.saved("png" if flat else "svg"), "png" if flat else "svg")
        if not self._in_notebook:
            ROOT.gSystem.ProcessEvents()

    def _display(self, image: bytes, kind: Kind) -> None:
        from IPython.display import SVG, Image, display

        shown = Image(data=image, format="png") if kind == "png" else SVG(data=image)
        if self._handle is None:
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def close(self) -> None:
        """Close the canvas; the last picture stays in a notebook."""
        with _drawing, _current_pad():
            self._canvas.close()


def in_notebook() -> bool:
    """Tell whether this process is a notebook's: other programs import IPython as well."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _option(value: Any) -> str:
    """Return how to draw a value: graphs need their axes, and their points, named."""
    if isinstance(value, ROOT.TGraph):
        return "AP"
    if isinstance(value, ROOT.TH1) and value.GetDimension() == 2:
        return "COLZ"
    return ""


def _note(share: float) -> Any:
    """Write the share of entries at the top left."""
    note = ROOT.TLatex()
    note.SetNDC()
    note.SetTextSize(_NOTE_SIZE)
    # Rounded down: all of the entries are there when the run is done, and not before.
    note.DrawLatex(0.1, 0.91, f"{math.floor(share * 100)} % of the entries")
    return note


@contextmanager
def _current_pad() -> Iterator[None]:
    """Let the user's pad be the current one again afterwards."""
    context = ROOT.TVirtualPad.TContext()
    try:
        yield
    finally:
        context.__destruct__()


@contextmanager
def _in_batch(wanted: bool = True) -> Iterator[None]:
    """Open no windows."""
    before = ROOT.gROOT.IsBatch()
    ROOT.gROOT.SetBatch(before or wanted)
    try:
        yield
    finally:
        ROOT.gROOT.SetBatch(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep ROOT from telling which files it writes."""
    before = ROOT.gErrorIgnoreLevel
    ROOT.gErrorIgnoreLevel = ROOT.kWarning
    try:
        yield
    finally:
        ROOT.gErrorIgnoreLevel = before
