"""The figures of the page: numbers, curves and tables, each a component of Bokeh over the same feed."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    DataTable,
    Div,
    HoverTool,
    HTMLTemplateFormatter,
    LayoutDOM,
    NumberFormatter,
    Span,
    TableColumn,
)
from bokeh.plotting import figure

from dask_root_lambda.dashboard.feed import Feed
from dask_root_lambda.dashboard.state import RangeTable, RunState, State

_COLORS = {"done": "#4c9a6a", "running": "#3b7dd8", "waiting": "#e0a030", "failed": "#c8322b"}
_SLOW = "#8e3bb8"
_BINS = 24


class Component:
    """Something that is drawn, and drawn again when the state is another one.

    Parameters
    ----------
    feed
        Where the states come from.
    """

    root: LayoutDOM
    period_ms = 500
    """Between two looks at the feed."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._drawn_s = -1.0

    def update(self) -> None:
        """Draw what is new; called again and again."""
        state = self._feed.look()
        if state is not None and state.at_s != self._drawn_s:
            self._drawn_s = state.at_s
            self.draw(state)

    def draw(self, state: State) -> None:
        """Draw a state."""
        raise NotImplementedError


class Numbers(Component):
    """The figures of the report, in a row of boxes."""

    def __init__(self, feed: Feed, sizing_mode: str = "stretch_width") -> None:
        super().__init__(feed)
        self.root = Div(text="No worker has told what it does yet.", sizing_mode=sizing_mode, name="numbers")

    def draw(self, state: State) -> None:
        """See `Component.draw`."""
        boxes = "".join(
            '<div style="padding:2px 14px 6px 0"><div style="font-size:11px;color:#666">'
            f'{html.escape(title)}</div><div class="{html.escape(name)}" style="font-size:20px;'
            f'font-variant-numeric:tabular-nums">{html.escape(value)}</div></div>'
            for name, title, value in numbers(state)
        )
        text = f'<div style="display:flex;flex-wrap:wrap">{boxes}</div>'
        if text != self.root.text:
            self.root.text = text


def numbers(state: State) -> Iterator[tuple[str, str, str]]:
    """Return what the boxes show: name, title and value of each."""
    total, last = state.total, _last(state.runs)
    yield "in-flight", "in flight / at most", f"{state.in_flight:,} / {state.concurrency:,}"
    if last is not None:
        yield "ranges", "ranges of the last run", f"{last.ranges_done:,} / {last.report['ranges']:,}"
    warm = total["invocations"] - total["cold_starts"]
    yield "cold", "cold / warm", f"{total['cold_starts']:,} / {warm:,}"
    yield "retried", "retried", f"{total['retries'] + total['second_tries']:,}"
    yield "throttled", "throttled", f"{total['refused']:,}"
    yield "failed", "failed", f"{total['failures']:,}"
    yield "entries-per-s", "entries/s", f"{total['entries_per_s']:,.0f}"
    yield "entries", "entries", f"{total['entries']:,}"
    yield "billed", "billed", f"{total['billed_s']:,.1f} s"
    yield "usd", "USD so far", f"{total['usd']:,.6f}"
    yield "memory", "peak memory", f"{total['peak_memory_mb']:,.0f} MB"
    if last is not None and last.usd_foreseen is not None and last.left_s is not None:
        yield "usd-foreseen", "USD of the run, foreseen", f"{last.usd_foreseen:,.6f}"
        yield "left", "done in about", _duration(last.left_s)


class InFlight(Component):
    """Invocations in flight against concurrency, over time."""

    def __init__(self, feed: Feed, sizing_mode: str = "stretch_both") -> None:
        super().__init__(feed)
        self._source = ColumnDataSource({"at": [], "in_flight": [], "concurrency": []})
        self.root = figure(
            title="In flight, and at most",
            x_axis_type="datetime",
            tools="",
            sizing_mode=sizing_mode,
            min_height=180,
            name="in_flight",
        )
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
        self.root.y_range.start = 0
        self.root.xaxis.ticker.desired_num_ticks = 3

    def draw(self, state: State) -> None:
        """See `Component.draw`."""
        moments = list(self._feed.moments)
        self._source.data = {
            "at": [moment.at_s * 1000 for moment in moments],
            "in_flight": [moment.in_flight for moment in moments],
            "concurrency": [moment.concurrency for moment in moments],
        }


class Throughput(Component):
    """Entries processed in a second, over time."""

    def __init__(self, feed: Feed, sizing_mode: str = "stretch_both") -> None:
        super().__init__(feed)
        self._source = ColumnDataSource({"at": [], "entries_per_s": []})
        self.root = figure(
            title="Entries/s",
            x_axis_type="datetime",
            tools="",
            sizing_mode=sizing_mode,
            min_height=180,
            name="throughput",
        )
        self.root.step("at", "entries_per_s", source=self._source, mode="before", color=_COLORS["done"])
        self.root.y_range.start = 0
        self.root.xaxis.ticker.desired_num_ticks = 3

    def draw(self, state: State) -> None:
        """See `Component.draw`."""
        moments = list(self._feed.moments)
        self._source.data = {
            "at": [moment.at_s * 1000 for moment in moments],
            "entries_per_s": [moment.entries_per_s for moment in moments],
        }


class Durations(Component):
    """How long each range took, or has taken, by its number."""

    period_ms = 1000

    def __init__(self, feed: Feed, sizing_mode: str = "stretch_both") -> None:
        super().__init__(feed)
        self._source = ColumnDataSource(_points(RangeTable()))
        self.root = figure(
            title="Seconds of each range; stragglers are diamonds",
            tools="",
            sizing_mode=sizing_mode,
            min_height=180,
            name="durations",
        )
        self.root.scatter(
            "index", "seconds", source=self._source, color="color", marker="marker", size="size", alpha=0.8
        )
        self._limit = Span(dimension="width", line_color=_SLOW, line_dash="dashed", visible=False)
        self.root.add_layout(self._limit)
        self.root.add_tools(
            HoverTool(
                tooltips=[
                    ("range", "@index"),
                    ("state", "@state"),
                    ("seconds", "@seconds{0.00}"),
                    ("attempts", "@attempts"),
                    ("entries", "@entries{0,0}"),
                ]
            )
        )
        self.root.y_range.start = 0

    def draw(self, state: State) -> None:
        """See `Component.draw`."""
        ranges = state.ranges
        self._source.data = _points(ranges)
        # A line far above all points would press them to the bottom.
        near = ranges.slow_after_s is not None and ranges.slow_after_s < 2 * max(ranges.seconds, default=0.0)
        self._limit.visible = near
        if near:
            self._limit.location = ranges.slow_after_s


def _points(ranges: RangeTable) -> dict[str, Any]:
    size = 9 if len(ranges.index) <= 100 else 5
    return {
        "index": ranges.index,
        "seconds": ranges.seconds,
        "state": ranges.state,
        "attempts": ranges.attempts,
        "entries": ranges.entries,
        "color": [
            _SLOW if slow else _COLORS[state] for state, slow in zip(ranges.state, ranges.slow, strict=True)
        ],
        "marker": ["diamond" if slow else "circle" for slow in ranges.slow],
        "size": [2 * size if slow else size for slow in ranges.slow],
    }


class Memory(Component):
    """How many environments have used how much memory at most."""

    period_ms = 1000

    def __init__(self, feed: Feed, sizing_mode: str = "stretch_both") -> None:
        super().__init__(feed)
        self._source = ColumnDataSource({"left": [], "right": [], "top": []})
        self.root = figure(
            title="Environments by peak memory, MB",
            tools="",
            sizing_mode=sizing_mode,
            min_height=180,
            name="memory",
        )
        self.root.quad("left", "right", "top", 0, source=self._source, color="#888", line_color="white")
        self.root.y_range.start = 0

    def draw(self, state: State) -> None:
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


class Runs(Component):
    """The last runs, by the names of the user's results, the latest first."""

    period_ms = 1000

    def __init__(self, feed: Feed, sizing_mode: str = "stretch_both") -> None:
        super().__init__(feed)
        self._source = ColumnDataSource(_rows(()))
        number, money = NumberFormatter(format="0,0"), NumberFormatter(format="0,0.000000")
        time = NumberFormatter(format="0,0.0")
        self.root = DataTable(
            source=self._source,
            columns=[
                TableColumn(field="results", title="results", width=260),
                TableColumn(field="run", title="run", width=80),
                TableColumn(field="where", title="where", width=90),
                TableColumn(field="ranges", title="ranges", width=80),
                TableColumn(field="invocations", title="invocations", width=70, formatter=number),
                TableColumn(field="cold", title="cold", width=50, formatter=number),
                TableColumn(field="retries", title="retries", width=50, formatter=number),
                TableColumn(field="failures", title="failed", width=50, formatter=number),
                TableColumn(field="billed_s", title="billed s", width=70, formatter=time),
                TableColumn(field="usd", title="USD", width=80, formatter=money),
                TableColumn(field="usd_foreseen", title="USD foreseen", width=80),
                TableColumn(field="entries", title="entries", width=90, formatter=number),
                TableColumn(field="wall_s", title="wall s", width=60, formatter=time),
            ],
            index_position=None,
            sizing_mode=sizing_mode,
            min_height=120,
            name="runs",
        )
        _redraw(self.root)

    def draw(self, state: State) -> None:
        """See `Component.draw`."""
        rows = _rows(state.runs)
        if rows != self._source.data:
            self._source.data = rows


def _rows(runs: Sequence[RunState]) -> dict[str, list[Any]]:
    latest = list(reversed(runs))
    reports = [run.report for run in latest]
    return {
        "results": [", ".join(run.results) or str(run.report["run"]) for run in latest],
        "run": [str(report["run"])[:8] for report in reports],
        "where": [", ".join(report["executions"]) for report in reports],
        "ranges": [f"{run.ranges_done:,} / {run.report['ranges']:,}" for run in latest],
        "invocations": [report["invocations"] for report in reports],
        "cold": [report["cold_starts"] for report in reports],
        "retries": [report["retries"] for report in reports],
        "failures": [report["failures"] for report in reports],
        "billed_s": [report["billed_s"] for report in reports],
        "usd": [report["usd"] for report in reports],
        "usd_foreseen": [
            f"{run.usd_foreseen:,.6f}" if run.usd_foreseen is not None else "" for run in latest
        ],
        "entries": [report["entries"] for report in reports],
        "wall_s": [report["wall_s"] for report in reports],
    }


class Ranges(Component):
    """The ranges of the last run, one by one."""

    period_ms = 1000

    def __init__(self, feed: Feed, sizing_mode: str = "stretch_both") -> None:
        super().__init__(feed)
        self._source = ColumnDataSource(_columns(RangeTable()))
        seconds = NumberFormatter(format="0,0.00")
        state = HTMLTemplateFormatter(template="<%- value %><% if (slow) { %> (straggler)<% } %>")
        self.root = DataTable(
            source=self._source,
            columns=[
                TableColumn(field="index", title="range", width=50),
                TableColumn(field="state", title="state", width=110, formatter=state),
                TableColumn(field="seconds", title="seconds", width=60, formatter=seconds),
                TableColumn(field="attempts", title="attempts", width=60),
                TableColumn(field="refused", title="throttled", width=60),
                TableColumn(
                    field="entries", title="entries", width=80, formatter=NumberFormatter(format="0,0")
                ),
                TableColumn(field="execution", title="where", width=70),
                TableColumn(field="environment", title="environment", width=90),
                TableColumn(field="request_id", title="request", width=220),
                TableColumn(field="log", title="log", width=380),
            ],
            index_position=None,
            sizing_mode=sizing_mode,
            min_height=160,
            name="ranges",
        )
        _redraw(self.root)

    def draw(self, state: State) -> None:
        """See `Component.draw`."""
        columns = _columns(state.ranges, state.log_options)
        if columns != self._source.data:
            self._source.data = columns


def _columns(ranges: RangeTable, log_options: str = "") -> dict[str, list[Any]]:
    every = asdict(ranges)
    names = ("index", "state", "seconds", "slow", "attempts", "refused", "entries", "execution", "request_id")
    which = zip(ranges.execution, ranges.request_id, ranges.index, strict=True)
    return {
        **{name: list(every[name]) for name in names},
        "environment": [each[:8] for each in ranges.environment],
        "log": [
            log_command(request_id, ranges.run, index, log_options) if execution == "lambda" else ""
            for execution, request_id, index in which
        ],
    }


def log_command(request_id: str, run: str, index: int, options: str) -> str:
    """Return the command that shows what a range has logged: of its last request, where that is known."""
    which = f"--request {request_id}" if request_id else f"--run {run} --range {index}"
    return f"dask-root-lambda logs {which} {options}".rstrip()


def _redraw(table: DataTable) -> None:
    """Have a table drawn when its values change; Bokeh 3.9 does it when the number of its rows does."""
    code = CustomJS(args={"table": table}, code="table.view.change.emit()")
    table.source.js_on_change("data", code)


def _last(runs: Sequence[RunState]) -> RunState | None:
    """Return the last run that has ranges."""
    return next((run for run in reversed(runs) if run.report["ranges"]), None)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:,.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:,} min {rest:02} s"
