"""The results on the page: histograms, profiles and graphs, which fill while their ranges arrive."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Sequence

from bokeh.models import Column, ColumnDataSource, Div, HoverTool, LinearColorMapper, Row
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from dask_root_lambda.dashboard.component import Component
from dask_root_lambda.dashboard.feed import Moment
from dask_root_lambda.dashboard.gallery import MOST_PICTURES, Gallery, Picture
from dask_root_lambda.dashboard.shapes import Kind
from dask_root_lambda.dashboard.state import State

_WIDTH, _HEIGHT = 340, 230
"""Size of a picture, pixels."""
_COLOR = "#3b7dd8"
_PALETTE = list(Viridis256)
_NAME = 40
"""Characters of a name or a title."""
_NOTHING: dict[Kind, dict[str, list[float]]] = {
    "bins": {name: [] for name in ("left", "right", "value", "error")},
    "cells": {name: [] for name in ("left", "right", "bottom", "top", "value")},
    "points": {name: [] for name in ("x", "y", "left", "right", "low", "high")},
}
_TOOLTIPS = {
    "bins": [("bin", "@left{0.[0000]a} to @right{0.[0000]a}"), ("content", "@value ± @error")],
    "cells": [
        ("x", "@left{0.[0000]a} to @right{0.[0000]a}"),
        ("y", "@bottom{0.[0000]a} to @top{0.[0000]a}"),
        ("content", "@value"),
    ],
    "points": [("x", "@x"), ("y", "@y"), ("from", "@low"), ("to", "@high")],
}


class Histograms(Component):
    """Results of the last runs, each with the share of entries in it."""

    def __init__(self, sizing_mode: str = "stretch_width") -> None:
        self._gallery: Gallery | None = None
        # All that can be needed: Bokeh 3.9 does not draw a plot that is added to a document with a theme.
        self._frames = [_Frame() for _ in range(MOST_PICTURES)]
        self.root = Row(
            children=[frame.root for frame in self._frames],
            sizing_mode=sizing_mode,
            styles={"flex-wrap": "wrap"},
            name="histograms",
        )

    def watch(self, gallery: Gallery) -> None:
        """See `Component.watch`."""
        self._gallery = gallery

    def draw(self, state: State, moments: Sequence[Moment]) -> None:
        """See `Component.draw`."""
        pictures = self._gallery.look() if self._gallery is not None else []
        for frame, picture in itertools.zip_longest(self._frames, pictures):
            frame.show(picture)


class _Frame:
    """Where one result is drawn, whatever kind it is of."""

    def __init__(self) -> None:
        self._shown: Picture | None = None
        self._sources = {kind: ColumnDataSource(_NOTHING[kind]) for kind in _NOTHING}
        self._head = Div()
        self._colors = LinearColorMapper(palette=_PALETTE)
        self._plot = plot = figure(width=_WIDTH, height=_HEIGHT, tools="", toolbar_location=None)
        sides = {"left": "left", "right": "right"}
        colors = {"fill_color": _COLOR, "line_color": _COLOR, "fill_alpha": 0.4}
        bins = plot.quad(**sides, top="value", bottom=0, source=self._sources["bins"], **colors)
        source = self._sources["cells"]
        colors = {"fill_color": {"field": "value", "transform": self._colors}, "line_color": None}
        cells = plot.quad(**sides, top="top", bottom="bottom", source=source, **colors)
        source = self._sources["points"]
        plot.segment("left", "y", "right", "y", source=source, color=_COLOR)
        plot.segment("x", "low", "x", "high", source=source, color=_COLOR)
        points = plot.scatter("x", "y", source=source, color=_COLOR, size=4)
        for kind, renderer in (("bins", bins), ("cells", cells), ("points", points)):
            plot.add_tools(HoverTool(renderers=[renderer], tooltips=_TOOLTIPS[kind]))
        self.root = Column(self._head, plot, visible=False)

    def show(self, picture: Picture | None) -> None:
        """Draw a result in place of the one before; None for nothing."""
        if picture is self._shown:
            return
        before, self._shown = self._shown, picture
        self.root.visible = picture is not None
        if before is not None and (picture is None or before.shape.kind != picture.shape.kind):
            self._sources[before.shape.kind].data = _NOTHING[before.shape.kind]
        if picture is None:
            return
        shape = picture.shape
        self._plot.xaxis.axis_label = shape.x_title[:_NAME]
        self._plot.yaxis.axis_label = shape.y_title[:_NAME]
        if shape.kind == "cells" and len(values := shape.columns["value"]):
            self._colors.low, self._colors.high = min(0.0, float(values.min())), float(values.max())
        self._sources[shape.kind].data = dict(shape.columns)
        self._head.text = _head(picture)


def _head(picture: Picture) -> str:
    """Write what a picture is of; what users have named is text."""
    shape = picture.shape
    # Rounded down: all of the entries are there when the run is done, and not before.
    share = "all entries" if picture.complete else f"{math.floor(picture.share * 100)} % of the entries"
    told = f"{share}, {shape.note}" if shape.note else share
    title = f" {html.escape(shape.title[:_NAME])}" if shape.title else ""
    return (
        f'<b class="histogram-name">{html.escape(picture.name)}</b>{title} '
        f'<span class="histogram-share" style="color:#666">{told}</span>'
    )
