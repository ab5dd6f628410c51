"""A bar while ranges run, on a terminal or in a notebook."""

from __future__ import annotations

import sys
import threading
from typing import Any

from tqdm.auto import tqdm

from dask_root_lambda.execution.ledger import Ledger, Progress


def wanted(setting: bool | None) -> bool:
    """Decide whether to show a bar: as asked, else where somebody looks."""
    if setting is not None:
        return setting
    return sys.stderr.isatty() or _in_a_kernel()


def _in_a_kernel() -> bool:
    """Tell whether this process is a notebook's: whoever has the package installed may have imported it."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def show(ledger: Ledger) -> None:
    """Show a bar for each run that the ledger counts, until its ranges are done or have failed."""
    ledger.watch(_Bars().update)


class _Bars:
    """One bar per run."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}
        self._lock = threading.Lock()

    def update(self, progress: Progress) -> None:
        report = progress.report
        if not report.ranges:
            return
        over = progress.ranges_done >= report.ranges or (report.failures and not progress.in_flight)
        with self._lock:
            if report.run not in self._bars and not over:
                self._bars[report.run] = tqdm(total=report.ranges, unit="range", leave=True, file=sys.stderr)
            bar = self._bars.get(report.run)
            if bar is None:
                return
            bar.n = progress.ranges_done
            bar.set_postfix(
                {"in flight": progress.in_flight, "cold": report.cold_starts, "USD": f"{report.usd:.4f}"},
                refresh=False,
            )
            if over:
                bar.refresh()
                bar.close()
                del self._bars[report.run]
            else:
                bar.update(0)
