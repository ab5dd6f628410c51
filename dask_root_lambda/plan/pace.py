"""When partial results are shown while a run goes on: soon at first, and then as often as costs little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_COST_SHARE = 0.04
"""Part of the time that updates may take, once the first of them have been shown."""
_EARLY = 8
"""Updates that are shown whatever they take, so that there is something to see in the first half of a run."""
_EARLY_SHARE = 0.4
"""Part of the ranges that are done when the last of these is shown, where ranges are done one by one."""
_SHORTEST_S = 0.05
"""Seconds between two updates, at least: nobody sees more."""


@dataclass
class Pace:
    """Decides when the next update is due.

    An update takes time of the process that merges, which may have ranges to run. The first few come at fixed
    parts of the ranges, each after at least as long as the one before took; those after them at most as often
    as costs `cost_share` of the time.
    """

    n_ranges: int
    cost_share: float = _COST_SHARE
    _shown: int = field(default=0, init=False)
    _ended_s: float = field(default=float("-inf"), init=False)
    _took_s: float = field(default=0.0, init=False)

    def wait_s(self, now_s: float, n_done: int) -> float:
        """Return in how many seconds an update is due, if nothing more is done until then; 0 for now.

        Parameters
        ----------
        now_s
            By the monotonic clock.
        n_done
            Ranges that are done.
        """
        if self._shown < _EARLY and n_done >= self._early(self._shown):
            pause_s = self._took_s
        else:
            pause_s = self._took_s * (1 / self.cost_share - 1)
        return max(0.0, self._ended_s + max(_SHORTEST_S, pause_s) - now_s)

    def showed(self, began_s: float, now_s: float) -> None:
        """Take note of an update, from when to when."""
        self._shown += 1
        self._ended_s, self._took_s = now_s, now_s - began_s

    def _early(self, update: int) -> float:
        """Return how many ranges are done when one of the first updates is due."""
        return max(1.0, self.n_ranges * _EARLY_SHARE * update / (_EARLY - 1))


def share(
    processed: int, entries_by_file: Mapping[int, int], *, n_files: float, entries: int | None = None
) -> float:
    """Estimate which part of the entries of a dataset has been processed, from 0 to 1.

    Parameters
    ----------
    processed
        Entries that event loops saw.
    entries_by_file
        Entries of the files that were opened. The others count with as many in the mean.
    n_files
        Files of the dataset, and the part of the last one that is read.
    entries
        Entries of a dataset without files.
    """
    if entries is None:
        known = sum(entries_by_file.values())
        entries = round(known * n_files / len(entries_by_file)) if entries_by_file else 0
    return min(1.0, processed / entries) if entries else 0.0
