"""How far runs are: a bar on a terminal and in a notebook, elsewhere a line for each tenth."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from tqdm.auto import tqdm

from dask_root_lambda.execution import timers
from dask_root_lambda.execution.ledger import Ledger, Progress
from dask_root_lambda.execution.phases import figures, phase
from dask_root_lambda.plan import arrivals

logger = logging.getLogger(__name__)

_TICK_S = 0.5
"""Seconds between two looks at runs that tell nothing."""
_SHORTEST_S = 0.2
"""Seconds between two pictures of a bar, at least."""
_PATIENCE_S = 300.0
"""How long a run stays in view whose ranges are done and of which nothing is heard: nobody waits for it."""
_RUN_WIDTH = 8
"""Digits of a run's identity that are shown, as in the report."""
_BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} ranges{postfix}"


def show(ledger: Ledger) -> None:
    """Show each run that the ledger counts, until its result is there or it has failed."""
    seen = sys.stderr.isatty() or _in_a_kernel()
    ledger.watch(Runs(ledger, Bar if seen else Lines).update)


def _in_a_kernel() -> bool:
    """Tell whether this process is a notebook's kernel; that IPython was imported does not say so."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class Display(Protocol):
    """Where one run is shown."""

    def due(self, doing: str, done: int, now_s: float) -> bool:
        """Tell whether it is time to show how far the run is."""

    def show(self, doing: str, done: int, figures: Sequence[str], now_s: float) -> None:
        """Show what the run is doing, how many ranges are done, and what is known in figures."""

    def close(self) -> None:
        """Show nothing more."""


class Runs:
    """The runs that go on, each with its display.

    Parameters
    ----------
    ledger
        Counts them, and has the clock.
    make
        Makes the display of a run, of its identity and the number of its ranges.
    """

    def __init__(self, ledger: Ledger, make: Callable[[str, int], Display]) -> None:
        self._ledger = ledger
        self._make = make
        self._lock = threading.RLock()
        self._runs: dict[str, _Run] = {}
        self._ticking = False

    def update(self, progress: Progress) -> None:
        """Take note of how far a run is; the ledger calls this."""
        report = progress.report
        if not report.ranges:
            return
        with self._lock:
            if report.run not in self._runs:
                if progress.ranges_done >= report.ranges or report.failures:
                    return
                run = _Run(self._make(report.run, report.ranges), self._drop_those_over)
                self._runs[report.run] = run
                arrivals.listen(report.run, run)
            self._runs[report.run].look(progress, self._ledger.now_s())
            self._drop_those_over()
            if not self._ticking:
                self._tick_later()

    def _tick_later(self) -> None:
        self._ticking = bool(self._runs) and timers.later(_TICK_S, self._tick) is not None

    def _tick(self) -> None:
        with self._lock:
            for run in self._runs.values():
                run.tick(self._ledger.now_s())
            self._drop_those_over()
            self._tick_later()

    def _drop_those_over(self) -> None:
        with self._lock:
            for name, run in list(self._runs.items()):
                if run.over(self._ledger.now_s()):
                    del self._runs[name]
                    run.close(self._ledger.now_s())


class _Run:
    """A run that goes on. It listens to what becomes of it."""

    def __init__(self, display: Display, told: Callable[[], None]) -> None:
        self._display = display
        self._told = told
        self._progress: Progress | None = None
        self._heard_s = 0.0
        self._slots = 0
        self._outcome: str | None = None

    def arrived(self, _: Sequence[bytes]) -> None:
        """See `arrivals.Listener`."""
        self._end("done")

    def failed(self, _: BaseException) -> None:
        """See `arrivals.Listener`."""
        self._end("failed")

    def look(self, progress: Progress, now_s: float) -> None:
        """Take note of how far it is."""
        self._progress, self._heard_s = progress, now_s
        self._slots = max(self._slots, progress.in_flight)
        self.tick(now_s)

    def tick(self, now_s: float) -> None:
        """Show it, where it is time: phase and time left change by themselves."""
        progress = self._progress
        if progress is not None:
            doing = phase(progress, now_s)
            if self._display.due(doing, progress.ranges_done, now_s):
                self._show(doing, now_s)

    def over(self, now_s: float) -> bool:
        """Tell whether it has succeeded or failed, or nobody waits for it."""
        progress = self._progress
        if self._outcome is not None or progress is None:
            return self._outcome is not None
        idle = progress.in_flight == 0
        return idle and (progress.report.failures > 0 or now_s - self._heard_s > _PATIENCE_S)

    def close(self, now_s: float) -> None:
        """Show what became of it."""
        self._show(self._outcome or "stopped", now_s)
        with _harmless():
            self._display.close()

    def _end(self, outcome: str) -> None:
        self._outcome = self._outcome or outcome
        self._told()

    def _show(self, doing: str, now_s: float) -> None:
        progress = self._progress
        if progress is not None:
            known = list(figures(progress, now_s, self._slots))
            with _harmless():
                self._display.show(doing, progress.ranges_done, known, now_s)


@contextmanager
def _harmless() -> Iterator[None]:
    """Let a display fail: what it shows goes on."""
    try:
        yield
    except Exception as error:  # whatever a terminal or a notebook raises that is gone
        logger.debug("a run is not shown: %r", error)


class Bar:
    """A bar of tqdm's.

    Parameters
    ----------
    run
        Identity of the run.
    n_ranges
        Its ranges.
    """

    def __init__(self, run: str, n_ranges: int) -> None:
        self._bar: Any = tqdm(total=n_ranges, bar_format=_BAR, leave=True, file=sys.stderr)
        self._shown_s = float("-inf")

    def due(self, doing: str, done: int, now_s: float) -> bool:
        """See `Display.due`."""
        return now_s - self._shown_s >= _SHORTEST_S

    def show(self, doing: str, done: int, figures: Sequence[str], now_s: float) -> None:
        """See `Display.show`."""
        self._shown_s = now_s
        self._bar.n = done
        self._bar.set_description_str(doing, refresh=False)
        self._bar.set_postfix_str(", ".join(figures), refresh=False)
        self._bar.refresh()

    def close(self) -> None:
        """See `Display.close`."""
        self._bar.close()


class Lines:
    """A line for each phase, and for each tenth of the ranges.

    Parameters
    ----------
    run
        Identity of the run.
    n_ranges
        Its ranges.
    """

    def __init__(self, run: str, n_ranges: int) -> None:
        self._run = run[:_RUN_WIDTH]
        self._n_ranges = n_ranges
        self._shown: tuple[str, int] | None = None

    def due(self, doing: str, done: int, now_s: float) -> bool:
        """See `Display.due`."""
        return (doing, self._tenth(done)) != self._shown

    def show(self, doing: str, done: int, figures: Sequence[str], now_s: float) -> None:
        """See `Display.show`."""
        self._shown = doing, self._tenth(done)
        ranges = f"{done:,} of {self._n_ranges:,} ranges, {done / self._n_ranges:.0%}"
        sys.stderr.write(f"run {self._run}: {', '.join((doing, ranges, *figures))}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """See `Display.close`."""

    def _tenth(self, done: int) -> int:
        return done * 10 // self._n_ranges
