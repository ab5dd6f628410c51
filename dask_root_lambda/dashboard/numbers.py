"""The numbers of the page: the report's, in boxes."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from bokeh.models import Div

from dask_root_lambda.dashboard.component import Component
from dask_root_lambda.dashboard.feed import Moment
from dask_root_lambda.dashboard.state import RunState, State
from dask_root_lambda.execution.phases import duration


class Numbers(Component):
    """The figures of the report, in a row of boxes."""

    def __init__(self, sizing_mode: str = "stretch_width") -> None:
        self.root = Div(text="No worker has told what it does yet.", sizing_mode=sizing_mode, name="numbers")

    def draw(self, state: State, moments: Sequence[Moment]) -> None:
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
    if last is not None and last.usd_foreseen is not None:
        yield "usd-foreseen", "USD of the run, foreseen", f"{last.usd_foreseen:,.6f}"
    if last is not None and last.left_s is not None:
        yield "left", "done in about", duration(last.left_s)


def _last(runs: Sequence[RunState]) -> RunState | None:
    """Return the last run that has ranges."""
    return next((run for run in reversed(runs) if run.report["ranges"]), None)
