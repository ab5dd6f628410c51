"""What the page shows of an executor at one moment: values without Dask, which travel as JSON."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from dask_root_lambda.config import EXECUTIONS, Settings
from dask_root_lambda.cost.report import RunReport
from dask_root_lambda.execution import remaining
from dask_root_lambda.execution.executor import LambdaExecutor
from dask_root_lambda.execution.ledger import Progress
from dask_root_lambda.execution.stragglers import slow_after_s
from dask_root_lambda.execution.tracks import RangeTrack, RunTrack
from dask_root_lambda.protocol.traffic import Traffic, summed

MOST_RANGES = 2_000
"""Ranges that are shown one by one."""
MOST_ENVIRONMENTS = 1_000
"""Environments whose memory is shown."""


@dataclass(frozen=True)
class RangeTable:
    """Ranges of a run, those that have begun: a list for each column, all of one length."""

    run: str = ""
    """Identity of the run."""
    begun: int = 0
    """How many have begun; of more than are shown, those that are not done come first."""
    slow_after_s: float | None = None
    """Seconds after which a range is a straggler; None as long as nobody can tell."""
    index: Sequence[int] = ()
    state: Sequence[str] = ()
    """``running``, ``waiting`` (to be tried again), ``done`` or ``failed``."""
    seconds: Sequence[float] = ()
    """How long it took, or has taken."""
    slow: Sequence[bool] = ()
    """Whether it is a straggler."""
    attempts: Sequence[int] = ()
    refused: Sequence[int] = ()
    cold: Sequence[bool] = ()
    entries: Sequence[int] = ()
    execution: Sequence[str] = ()
    environment: Sequence[str] = ()
    request_id: Sequence[str] = ()


@dataclass(frozen=True)
class RunState:
    """A run, for the table of runs."""

    report: Mapping[str, Any]
    """What `dask_root_lambda.cost.report.RunReport.to_dict` says of it."""
    results: Sequence[str] = ()
    """Names of the user's results."""
    ranges_done: int = 0
    in_flight: int = 0
    """Its tasks that have begun and are not done."""
    usd_foreseen: float | None = None
    """What it will have cost; None as long as nobody can tell, and where it is over."""
    left_s: float | None = None
    """Seconds until its ranges are done, as far as can be foreseen."""

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        report = self.report
        complete = self.ranges_done >= report["ranges"]
        return self.in_flight == 0 and (complete or report["failures"] > 0)


@dataclass(frozen=True)
class State:
    """An executor at one moment."""

    total: Mapping[str, Any]
    """What the report says of all runs together."""
    runs: Sequence[RunState] = ()
    """The last runs, in the order in which they began."""
    ranges: RangeTable = field(default_factory=RangeTable)
    """Ranges of the last run that has any."""
    execution: str = ""
    """Where ranges that start from now on run; several where workers differ."""
    executions: Mapping[str, str] = field(default_factory=dict)
    """Each execution, and why it cannot be chosen; empty where it can."""
    concurrency: int = 0
    """Invocations in flight at most."""
    most_concurrency: int = 0
    """What that can be raised to."""
    in_flight: int = 0
    """Invocations that are being made."""
    max_usd: float | None = None
    """What all runs may cost together, USD; None for no limit."""
    log_options: str = ""
    """What ``dask-root-lambda logs`` has to be told to find the deployment."""
    memory_mb: Sequence[float] = ()
    """Largest memory use of each environment of the last run."""
    at_s: float = 0.0
    """When that was, seconds since the epoch."""

    def to_json(self) -> str:
        """Return it as text."""
        # Not by asdict, which copies each value of each column.
        return json.dumps(vars(self), default=vars, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> State:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        data["runs"] = tuple(RunState(**run) for run in data["runs"])
        data["ranges"] = RangeTable(**data["ranges"])
        return cls(**data)


def of(executor: LambdaExecutor) -> State:
    """Look at an executor."""
    ledger, now_s = executor.ledger, time.monotonic()
    tracks = [(run, ledger.progress(run.account)) for run in executor.tracks.runs()]
    concurrency = executor.concurrency
    with_ranges = [pair for pair in tracks if pair[0].ranges]
    last = with_ranges[-1][0] if with_ranges else None
    return State(
        total=ledger.total().to_dict(),
        runs=tuple(_run(run, progress, concurrency, now_s) for run, progress in tracks),
        ranges=table(last, now_s) if last is not None else RangeTable(),
        execution=executor.execution,
        executions={str(name): reason for name, reason in executor.obstacles().items()},
        concurrency=concurrency,
        most_concurrency=executor.most_concurrency,
        in_flight=ledger.invocations,
        max_usd=executor.settings.max_cost_usd,
        log_options=_log_options(executor.settings),
        memory_mb=tuple(last.environments.values())[:MOST_ENVIRONMENTS] if last is not None else (),
        at_s=time.time(),
    )


def table(run: RunTrack, now_s: float) -> RangeTable:
    """Make a table of the ranges of a run that have begun."""
    left_over = sum(track.left_over for track in run.ranges.values())
    limit_s = slow_after_s(_done_s(run), run.account.ranges - left_over)
    shown = choose(list(run.ranges.values()), MOST_RANGES)
    seconds = [round(track.elapsed_s(now_s), 3) for track in shown]
    return RangeTable(
        run=run.account.run,
        begun=len(run.ranges),
        slow_after_s=limit_s,
        index=[track.index for track in shown],
        state=[track.state for track in shown],
        seconds=seconds,
        slow=[
            track.doubled or (limit_s is not None and each_s >= limit_s)
            for track, each_s in zip(shown, seconds, strict=True)
        ],
        attempts=[track.attempts for track in shown],
        refused=[track.refused for track in shown],
        cold=[track.cold for track in shown],
        entries=[track.entries for track in shown],
        execution=[track.execution for track in shown],
        environment=[track.environment for track in shown],
        request_id=[track.request_id for track in shown],
    )


def choose(tracks: Sequence[RangeTrack], most: int) -> list[RangeTrack]:
    """Choose which ranges are shown, in order: those that are not done, then those that took longest."""
    if len(tracks) > most:
        tracks = sorted(tracks, key=lambda track: (track.state == "done", -track.seconds))[:most]
    return sorted(tracks, key=lambda track: track.index)


def together(states: Iterable[State]) -> State:
    """Add up the states of several workers: a run may have ranges on each of them."""
    every = list(states)
    if len(every) == 1:
        return every[0]
    if not every:
        return State(RunReport("total").to_dict())
    last = max(every, key=lambda state: (len(state.ranges.index) > 0, state.at_s))
    return State(
        total=_added([state.total for state in every]),
        runs=_runs_together([run for state in every for run in state.runs]),
        ranges=_tables_together([state.ranges for state in every if state.ranges.run == last.ranges.run]),
        execution=", ".join(sorted({state.execution for state in every})),
        executions={
            name: next((state.executions[name] for state in every if state.executions[name]), "")
            for name in EXECUTIONS
        },
        concurrency=sum(state.concurrency for state in every),
        most_concurrency=sum(state.most_concurrency for state in every),
        in_flight=sum(state.in_flight for state in every),
        max_usd=None if any(state.max_usd is None for state in every) else sum(s.max_usd or 0 for s in every),
        log_options=last.log_options,
        memory_mb=[each for state in every for each in state.memory_mb],
        at_s=last.at_s,
    )


def _run(run: RunTrack, progress: Progress, concurrency: int, now_s: float) -> RunState:
    report = progress.report
    over = progress.in_flight == 0 and progress.ranges_done >= report.ranges
    goes_on = report.ranges > 0 and not over and not report.failures
    return RunState(
        report=report.to_dict(),
        results=run.results,
        ranges_done=progress.ranges_done,
        in_flight=progress.in_flight,
        usd_foreseen=_usd_foreseen(run, progress) if goes_on else None,
        left_s=remaining.of(progress, now_s, concurrency) if goes_on else None,
    )


def _usd_foreseen(run: RunTrack, progress: Progress) -> float | None:
    """Foresee what a run will have cost: ranges that are left as much as those that are done, in the mean."""
    n_done = sum(map(_was_done, run.ranges.values()))
    if not n_done:
        return None
    usd = progress.report.usd
    return usd + usd / n_done * (progress.report.ranges - progress.ranges_done)


def _log_options(settings: Settings) -> str:
    given = {"--name": settings.deployment, "--region": settings.region, "--profile": settings.profile}
    return " ".join(f"{option} {shlex.quote(value)}" for option, value in given.items() if value)


def _done_s(run: RunTrack) -> list[float]:
    return sorted(track.seconds for track in run.ranges.values() if _was_done(track))


def _was_done(track: RangeTrack) -> bool:
    """Tell whether this run has done a range: one that an earlier try has left took no time, and no money."""
    return track.state == "done" and not track.left_over


_LARGEST = ("ranges", "wall_s", "peak_memory_mb")
"""Figures of a run on several workers that do not add up."""


def _added(reports: Sequence[Mapping[str, Any]], largest: Sequence[str] = _LARGEST[1:]) -> dict[str, Any]:
    sums: dict[str, Any] = {"run": reports[0]["run"]}
    for item in fields(RunReport):
        values = [report[item.name] for report in reports]
        if item.name == "executions":
            sums[item.name] = tuple(dict.fromkeys(name for names in values for name in names))
        elif item.name in ("traffic", "again"):
            sums[item.name] = summed(Traffic(**each) for parts in values for each in parts)
        elif isinstance(values[0], int | float):
            sums[item.name] = max(values) if item.name in largest else sum(values)
    return RunReport(**sums).to_dict()


def _runs_together(runs: Sequence[RunState]) -> tuple[RunState, ...]:
    by_name: dict[str, list[RunState]] = {}
    for run in runs:
        by_name.setdefault(str(run.report["run"]), []).append(run)
    return tuple(same[0] if len(same) == 1 else _run_together(same) for same in by_name.values())


def _run_together(same: Sequence[RunState]) -> RunState:
    """Add up a run; what one worker foresees of it is not worth much."""
    return RunState(
        report=_added([run.report for run in same], _LARGEST),
        results=same[0].results,
        ranges_done=sum(run.ranges_done for run in same),
        in_flight=sum(run.in_flight for run in same),
    )


def _tables_together(tables: Sequence[RangeTable]) -> RangeTable:
    columns = {
        item.name: [value for each in tables for value in getattr(each, item.name)]
        for item in fields(RangeTable)
        if item.name not in ("run", "begun", "slow_after_s")
    }
    return RangeTable(
        run=tables[0].run,
        begun=sum(each.begun for each in tables),
        slow_after_s=tables[0].slow_after_s,
        **columns,
    )
