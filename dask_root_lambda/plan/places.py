"""Which part of a dataset an interval is, in words: for errors and reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from dask_root_lambda.protocol.intervals import Interval


def described(files: Sequence[str], interval: Interval) -> str:
    """Say which files, and which of their entries, an interval reads.

    Parameters
    ----------
    files
        The file table; empty for a dataset of entries without files.
    interval
        A part of the dataset.
    """
    if not files:
        return f"entries {int(interval.start):,} to {int(interval.stop):,}"
    first, last = math.floor(interval.start), math.ceil(interval.stop) - 1
    start, stop = interval.start - first, interval.stop - last
    if first == last:
        share = "" if start == 0 and stop == 1 else f", entries from {_percent(start)} to {_percent(stop)}"
        return f"{files[first]}{share}"
    return (
        f"{files[first]}{f' from {_percent(start)}' if start else ''} to "
        f"{files[last]}{f' up to {_percent(stop)}' if stop < 1 else ''} ({last - first + 1:,} files)"
    )


def _percent(part: Fraction) -> str:
    return f"{float(100 * part):.4g} %"
