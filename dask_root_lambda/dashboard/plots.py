"""The curves of the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, Span
from bokeh.plotting import figure
from bokeh.transform import factor_cmap, factor_mark

from dask_root_lambda.dashboard.component import Component
from dask_root_lambda.dashboard.feed import Moment
from dask_root_lambda.dashboard.state import RangeTable, State

_SLOW = "straggler"
_COLORS = {
    "done": "#4c9a6a",
    "running": "#3b7dd8",
    "waiting": "#e0a030",
    "failed": "#c8322b",
    _SLOW: "#8e3bb8",
}
_FEW = 100
"""Up to this number, ranges are drawn larger."""
_BINS = 24


def _figure(name: str, title: str, sizing_mode: str, x_axis_type: str = "linear") -> figure:
    """Make an empty figure whose values begin at 0."""
    made = figure(
        title=title, x_axis_type=x_axis_type, tools="", sizing_mode=sizing_mode, min_height=180, name=name
    )
    made.y_range.start = 0
    if x_axis_type == "datetime":
        made.xaxis.ticker.desired_num_ticks = 3
    return made


class InFlight(Component):
    """Invocations in flight against concurrency, over time."""

    def __init__(self, sizing_mode: str = "stretch_both") -> None:
        # Never empty: a browser that draws an area of steps without points does not end (Bokeh 3.9).
        start = {"at": [time.time() * 1000], "in_flight": [0], "concurrency": [0]}
        self._source = ColumnDataSource(start)
        self.root = _figure("in_flight", "In flight, and at most", sizing_mode, x_axis_type="datetime")
        self.root.varea_step(
            "at",
            0,
            "in_flight",
            source=self._source,
            step_mode="after",
            fill_alpha=0.35,
            fill_color=_COLORS["running"],
        )
        self.root.step("at", "in_flight", source=self._source, mode="after", color=_COLORS["running"])
        self.root.step(
            "at", "concurrency", source=self._source, mode="after", color="#666", line_dash="dashed"
        )

    def draw(self, state: State, moments: Sequence[Moment]) -> None:
        """See `Component.draw`."""
        self._source.data = {
            "at": [moment.at_s * 1000 for moment in moments],
            "in_flight": [moment.in_flight for moment in moments],
            "concurrency": [moment.concurrency for moment in moments],
        }


class Throughput(Component):
    """Entries processed in a second, over time."""

    def __init__(self, sizing_mode: str = "stretch_both") -> None:
        self._source = ColumnDataSource({"at": [], "entries_per_s": []})
        self.root = _figure("throughput", "Entries/s", sizing_mode, x_axis_type="datetime")
        self.root.step("at", "entries_per_s", source=self._source, mode="before", color=_COLORS["done"])

    def draw(self, state: State, moments: Sequence[Moment]) -> None:
        """See `Component.draw`."""
        self._source.data = {
            "at": [moment.at_s * 1000 for moment in moments],
            "entries_per_s": [moment.entries_per_s for moment in moments],
        }


class Durations(Component):
    """How long each range took, or has taken, by its number."""

    by_range = True

    def __init__(self, sizing_mode: str = "stretch_both") -> None:
        self._source = ColumnDataSource(points(RangeTable()))
        self.root = _figure("durations", "Seconds of each range; stragglers are diamonds", sizing_mode)
        kinds = list(_COLORS)
        self.root.scatter(
            "index",
            "seconds",
            source=self._source,
            color=factor_cmap("kind", list(_COLORS.values()), kinds),
            marker=factor_mark("kind", ["diamond" if kind == _SLOW else "circle" for kind in kinds], kinds),
            size="size",
            alpha=0.8,
        )
        self._limit = Span(dimension="width", line_color=_COLORS[_SLOW], line_dash="dashed", visible=False)
        self.root.add_layout(self._limit)
        shown = {"range": "index", "": "kind", "seconds": "seconds{0.00}", "attempts": "attempts"}
        self.root.add_tools(HoverTool(tooltips=[(name, f"@{field}") for name, field in shown.items()]))

    def draw(self, state: State, moments: Sequence[Moment]) -> None:
        """See `Component.draw`."""
        ranges = state.ranges
        self._source.data = points(ranges)
        # A line far above all points would press them to the bottom.
        near = ranges.slow_after_s is not None and ranges.slow_after_s < 2 * max(ranges.seconds, default=0.0)
        self._limit.visible = near
        if near:
            self._limit.location = ranges.slow_after_s


def points(ranges: RangeTable) -> dict[str, Any]:
    """Return what is drawn of ranges. Numbers are arrays: Bokeh sends these as they are."""
    slow = np.array(ranges.slow, dtype=bool)
    size = 9 if len(ranges.index) <= _FEW else 5
    return {
        "index": np.array(ranges.index, dtype=np.int32),
        "seconds": np.array(ranges.seconds, dtype=np.float32),
        "attempts": np.array(ranges.attempts, dtype=np.int32),
        "size": np.where(slow, np.int32(2 * size), np.int32(size)),
        "kind": [_SLOW if each else state for state, each in zip(ranges.state, ranges.slow, strict=True)],
    }


class Memory(Component):
    """How many environments have used how much memory at most."""

    def __init__(self, sizing_mode: str = "stretch_both") -> None:
        self._source = ColumnDataSource({"left": [], "right": [], "top": []})
        self.root = _figure("memory", "Environments by peak memory, MB", sizing_mode)
        self.root.quad("left", "right", "top", 0, source=self._source, color="#888", line_color="white")

    def draw(self, state: State, moments: Sequence[Moment]) -> None:
        """See `Component.draw`."""
        self._source.data = histogram(state.memory_mb, _BINS)


def histogram(values: Sequence[float], bins: int) -> dict[str, list[float]]:
    """Count values in bins of one width, from the least to the largest."""
    if not values:
        return {"left": [], "right": [], "top": []}
    low, high = min(values), max(values)
    width = max((high - low) / bins, 1.0)
    counts = [0.0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / width))] += 1
    left = [low + width * each for each in range(bins)]
    return {"left": left, "right": [edge + width for edge in left], "top": counts}
