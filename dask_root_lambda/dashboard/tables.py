"""The tables of the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    DataTable,
    HTMLTemplateFormatter,
    NumberFormatter,
    TableColumn,
)

from dask_root_lambda.config import EXECUTIONS
from dask_root_lambda.dashboard.component import Component
from dask_root_lambda.dashboard.feed import Moment
from dask_root_lambda.dashboard.state import RangeTable, RunState, State
from dask_root_lambda.execution.tracks import RangeState

_STATES = (*get_args(RangeState), *(f"{state} (straggler)" for state in get_args(RangeState)))


_FAILED = [number for number, state in enumerate(_STATES) if state.startswith("failed")]
_AGAIN_HERE = f"<%- {_FAILED}.includes(state) ? `result.debug(${{index}})` : '' %>"
"""The template of what runs a range that failed once more in the user's process."""


class Runs(Component):
    """The last runs, by the names of the user's results, the latest first."""

    def __init__(self, sizing_mode: str = "stretch_both") -> None:
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

    def draw(self, state: State, moments: Sequence[Moment]) -> None:
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

    by_range = True

    def __init__(self, sizing_mode: str = "stretch_both") -> None:
        self._source = ColumnDataSource(cells(RangeTable()))
        self._log = ("", "")
        self.root = DataTable(
            source=self._source,
            columns=_range_columns(*self._log),
            index_position=None,
            sizing_mode=sizing_mode,
            min_height=160,
            name="ranges",
        )
        _redraw(self.root)

    def draw(self, state: State, moments: Sequence[Moment]) -> None:
        """See `Component.draw`."""
        log = (state.ranges.run, state.log_options)
        if log != self._log:
            self._log, self.root.columns = log, _range_columns(*log)
        self._source.data = cells(state.ranges)


def _range_columns(run: str, log_options: str) -> list[TableColumn]:
    """Return the columns; numbers stand for states and executions."""
    number = NumberFormatter(format="0,0")
    columns = [
        TableColumn(field="index", title="range", width=50, formatter=number),
        TableColumn(field="state", title="state", width=110, formatter=_named(_STATES)),
        TableColumn(field="seconds", title="seconds", width=60, formatter=NumberFormatter(format="0,0.00")),
        TableColumn(field="attempts", title="attempts", width=60, formatter=number),
        TableColumn(field="refused", title="throttled", width=60, formatter=number),
        TableColumn(field="entries", title="entries", width=80, formatter=number),
        TableColumn(field="execution", title="where", width=70, formatter=_named(EXECUTIONS)),
        TableColumn(field="environment", title="environment", width=90),
        TableColumn(field="request_id", title="request", width=220),
    ]
    log = HTMLTemplateFormatter(template=_log_template(run, log_options))
    here = HTMLTemplateFormatter(template=_AGAIN_HERE)
    return [
        *columns,
        TableColumn(field="request_id", title="log", width=380, formatter=log),
        TableColumn(field="index", title="again here, with gdb's command", width=200, formatter=here),
    ]


def _named(names: Sequence[str]) -> HTMLTemplateFormatter:
    return HTMLTemplateFormatter(template=f"<%- {json.dumps(list(names))}[value] %>")


def _log_template(run: str, options: str) -> str:
    """Return the template of the command that shows the log of a range in AWS; ``<%-`` escapes."""
    of_request = log_command("REQUEST", run, 0, options)
    of_range = log_command("", run, "RANGE", options)
    code = (
        f"const of = request_id ? {json.dumps(of_request)}.replace('REQUEST', request_id)"
        f" : {json.dumps(of_range)}.replace('RANGE', index);"
    )
    return f"<% {code} %><%- execution == {EXECUTIONS.index('lambda')} ? of : '' %>"


def cells(ranges: RangeTable) -> dict[str, Any]:
    """Return what the table shows of ranges. Numbers are arrays: Bokeh sends these as they are."""
    counts = ("index", "attempts", "refused")
    states = [
        _STATES.index(state) + (len(_STATES) // 2 if slow else 0)
        for state, slow in zip(ranges.state, ranges.slow, strict=True)
    ]
    return {
        **{name: np.array(getattr(ranges, name), dtype=np.int32) for name in counts},
        "entries": np.array(ranges.entries, dtype=np.float64),
        "seconds": np.array(ranges.seconds, dtype=np.float32),
        "state": np.array(states, dtype=np.int32),
        "execution": np.array([EXECUTIONS.index(each) for each in ranges.execution], dtype=np.int32),
        "environment": [each[:8] for each in ranges.environment],
        "request_id": ranges.request_id,
    }


def log_command(request_id: str, run: str, index: int | str, options: str) -> str:
    """Return the command that shows what a range has logged: of its last request, where that is known."""
    which = f"--request {request_id}" if request_id else f"--run {run} --range {index}"
    return f"dask-root-lambda logs {which} {options}".rstrip()


def _redraw(table: DataTable) -> None:
    """Have a table drawn when its values change; Bokeh 3.9 does it when the number of its rows does."""
    code = CustomJS(args={"table": table}, code="table.view.change.emit()")
    table.source.js_on_change("data", code)
