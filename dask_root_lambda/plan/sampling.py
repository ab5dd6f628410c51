"""Which small parts of a dataset are run first, to see what the rest takes; and the division around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from dask_root_lambda.protocol.intervals import Division, Interval

WAVE = 4
"""Samples that are run at once. Two waves: the first starts environments, the second finds them."""

_FINEST = 400
"""A sample is no less than this part of the dataset: a thousand clusters would tell no more."""

_LARGE = 3
"""How many times as large as the others some samples are: by both, what an invocation takes by itself is told
apart from what its entries take."""


@dataclass(frozen=True)
class Plan:
    """Samples of a dataset."""

    first: tuple[Interval, ...]
    """Run at once, in environments that may have to be started."""
    then: tuple[Interval, ...]
    """Run at once when those are done."""

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """All of them, in the order of the dataset."""
        return tuple(sorted((*self.first, *self.then)))


def chosen(length: int, clusters: int) -> Plan:
    """Choose samples of a dataset, spread over it.

    Parameters
    ----------
    length
        Of the dataset, as `dask_root_lambda.protocol.intervals` measures it.
    clusters
        How many clusters it has, about; at least 1.

    Returns
    -------
    Plan
        At most eight samples, and at most a half of the dataset, unless that has a single cluster.
    """
    cells = max(1, min(clusters, _FINEST))
    n_samples = max(1, min(2 * WAVE, cells // 2))
    room = cells // n_samples
    starts = [cells * index // n_samples for index in range(n_samples)]
    sizes = [min(_LARGE, max(1, room // 2)) if index % 4 == 3 else 1 for index in range(n_samples)]
    cell = Fraction(length, cells)
    samples = [
        Interval(start * cell, (start + size) * cell) for start, size in zip(starts, sizes, strict=True)
    ]
    return Plan(tuple(samples[::2]), tuple(samples[1::2]))


def of_division(division: Division) -> Plan:
    """Choose samples among the ranges of a division that is decided already."""
    n_samples = max(1, min(2 * WAVE, len(division) // 2))
    samples = [division[len(division) * index // n_samples] for index in range(n_samples)]
    return Plan(tuple(samples[::2]), tuple(samples[1::2]))


def around(samples: Sequence[Interval], length: int, n_ranges: int) -> Division:
    """Divide a dataset into about ``n_ranges`` ranges, of which the samples are some.

    Parameters
    ----------
    samples
        Disjoint, in order.
    length
        Of the dataset.
    n_ranges
        Ranges that were asked for. There are more where the gaps between samples are shorter than a range.
    """
    left = length - sum((each.stop - each.start for each in samples), Fraction())
    size = left / max(1, n_ranges - len(samples))
    bounds = [Fraction(), *(bound for each in samples for bound in (each.start, each.stop)), Fraction(length)]
    known = set(samples)
    division: list[Interval] = []
    for start, stop in pairwise(bounds):
        gap = Interval(start, stop)
        if gap in known:
            division.append(gap)
        elif start < stop:
            division += _divided(gap, max(1, round((stop - start) / size)))
    return tuple(division)


def _divided(gap: Interval, n_parts: int) -> list[Interval]:
    step = (gap.stop - gap.start) / n_parts
    bounds = [gap.start + step * index for index in range(n_parts)] + [gap.stop]
    return [Interval(start, stop) for start, stop in pairwise(bounds)]
