"""The cost and the time of a run, extrapolated from a few of its ranges."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dask_root_lambda.cost.billing import Billing
from dask_root_lambda.cost.prices import Prices

_LEAST_DOUBT = 0.1
"""Half-width of the interval that is stated at least, as a part of the value: environments differ."""

_MOST_DOUBT = 0.5
"""Stated where too few ranges were sampled to tell."""

_MEMORY_MARGIN = 1.25
_MEMORY_STEP_MB = 64
_ONE_VCPU_MB = 1769
"""Memory with which a function has one vCPU:
https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""


@dataclass(frozen=True)
class Sample:
    """A range that was run to see what it takes."""

    size: float
    """How much of the dataset it was, in any unit in which work is proportional to it."""
    duration_s: float
    """Seconds that the handler ran."""
    billing: Billing
    environment: str
    """Identifier of the execution environment that ran it."""
    first: bool = False
    """Whether it may have been the first of its environment, which compiles the graph."""
    data_usd: float = 0.0
    """What reading its data from S3 costs: requests, and transfer between regions."""


@dataclass(frozen=True)
class Pace:
    """How long ranges take."""

    fixed_s: float
    """Seconds of a range in a warm environment, whatever its size."""
    per_size_s: float
    """Seconds more for each unit of size."""
    first_s: float
    """Seconds more of the first range of an environment."""
    start_s: float
    """Seconds billed besides, for starting an environment."""
    doubt: float
    """Half-width of the interval in which the work of the rest lies, as a part of it."""

    def work_s(self, size: float, n_ranges: int) -> float:
        """Return the seconds that ranges of a size together take in warm environments."""
        return self.fixed_s * n_ranges + self.per_size_s * size


def pace(samples: Sequence[Sample]) -> Pace:
    """Reckon how long ranges take from samples of at least one."""
    warm = [each for each in samples if not each.first and not each.billing.cold] or list(samples)
    fixed_s, per_size_s = _line([(each.size, each.duration_s) for each in warm])
    later_s = [each.duration_s - fixed_s - per_size_s * each.size for each in samples if each.first]
    n_cold = sum(each.billing.cold for each in samples) or len({each.environment for each in samples})
    slowest = sorted(later_s, reverse=True)[:n_cold]
    starts = [each.billing.billed_s - each.duration_s for each in samples if each.billing.cold]
    return Pace(
        fixed_s=fixed_s,
        per_size_s=per_size_s,
        first_s=max(0.0, _mean(slowest)),
        start_s=max(0.0, _mean(starts)),
        doubt=_doubt([each.duration_s / (fixed_s + per_size_s * each.size) for each in warm]),
    )


@dataclass(frozen=True)
class Estimate:
    """What a run, or several, will take and cost: the samples, which were run, and the rest."""

    usd: float
    """Cost at list price, as in `dask_root_lambda.cost.report.RunReport`."""
    usd_range: tuple[float, float]
    """Bounds of the cost, USD, that hold in about 19 of 20 runs like this."""
    wall_s: float
    """Seconds that the rest will take, without merges."""
    wall_s_range: tuple[float, float]
    """Bounds of that time, seconds, in the same sense."""
    npartitions: int
    """Ranges of the run: what the user asked for, else what is recommended and will be used."""
    why: str
    """Why so many."""
    memory_mb: int
    """Recommended memory of the function, MB of 2^20 bytes; not less than gives a whole vCPU."""
    peak_memory_mb: float
    """Largest memory use that was seen."""
    work_s: float
    """Seconds that all ranges take together."""
    sampled: int
    """Ranges that were run; the run takes their results and does not run them again."""
    spent_usd: float
    """What they have cost; part of ``usd``."""
    data_usd: float = 0.0
    """What reading from S3 costs, requests and transfer between regions; part of ``usd``."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join(f"{name:<14}{value}" for name, value in self._rows())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in self._rows()
        )
        return f"<table>{rows}</table>"

    def _rows(self) -> Iterable[tuple[str, str]]:
        low, high = self.usd_range
        data = f", {self.data_usd:,.6f} for reading from S3" if self.data_usd else ""
        yield (
            "cost",
            f"{self.usd:,.6f} USD ({low:,.6f} to {high:,.6f}), {self.spent_usd:,.6f} of it spent{data}",
        )
        low, high = self.wall_s_range
        yield "wall", f"{self.wall_s:,.1f} s ({low:,.1f} to {high:,.1f}), besides merging"
        yield "work", f"{self.work_s:,.1f} s"
        yield "npartitions", self.why
        yield "memory", f"{self.memory_mb:,} MB; the samples used {self.peak_memory_mb:,.0f} MB"
        yield "sampled", f"{self.sampled:,} ranges, which the run does not run again"


@dataclass(frozen=True)
class Rest:
    """What is to be run still."""

    size: float
    n_ranges: int
    slots: int
    """Ranges that run at once."""


def extrapolate(
    samples: Sequence[Sample], rest: Rest, prices: Prices, *, why: str, standing_usd_per_s: float = 0.0
) -> Estimate:
    """Reckon what the samples and the rest take and cost together.

    Parameters
    ----------
    samples
        What was run, at least one range.
    rest
        What was not.
    prices
        Of the execution.
    why
        Why there are as many ranges as there are.
    standing_usd_per_s
        What the function costs while it is used, besides its invocations.
    """
    known, memory_mb = pace(samples), max(each.billing.memory_mb for each in samples)
    seen = len({each.environment for each in samples})
    new = max(0, min(rest.slots, rest.n_ranges) - seen)
    warm_s = known.work_s(rest.size, rest.n_ranges)
    billed_s = warm_s + new * (known.first_s + known.start_s)
    wall_s = _wall_s(known, rest, warm_s, new=new)
    data_usd, size = sum(each.data_usd for each in samples), sum(each.size for each in samples)
    rest_data_usd = data_usd / size * rest.size if size else 0.0
    spent_usd = sum(prices.usd(each.billing) for each in samples) + data_usd
    per_second = prices.usd(Billing(billed_s=1.0, memory_mb=memory_mb)) - prices.request
    rest_usd = rest.n_ranges * prices.request + billed_s * per_second + wall_s * standing_usd_per_s
    rest_usd += rest_data_usd
    peak_mb = max(each.billing.peak_memory_mb for each in samples)
    return Estimate(
        usd=spent_usd + rest_usd,
        usd_range=(spent_usd + rest_usd * (1 - known.doubt), spent_usd + rest_usd * (1 + known.doubt)),
        wall_s=wall_s,
        wall_s_range=(wall_s * (1 - known.doubt), wall_s * (1 + known.doubt)),
        npartitions=rest.n_ranges + len(samples),
        why=why,
        memory_mb=max(_ONE_VCPU_MB, math.ceil(peak_mb * _MEMORY_MARGIN / _MEMORY_STEP_MB) * _MEMORY_STEP_MB),
        peak_memory_mb=peak_mb,
        work_s=warm_s + sum(each.duration_s for each in samples),
        sampled=len(samples),
        spent_usd=spent_usd,
        data_usd=data_usd + rest_data_usd,
    )


def _wall_s(known: Pace, rest: Rest, warm_s: float, *, new: int) -> float:
    """Return how long the rest takes: as many waves as the ranges need, or as the work fills the slots."""
    if rest.n_ranges == 0:
        return 0.0
    waves = math.ceil(rest.n_ranges / rest.slots)
    even_s = warm_s / min(rest.slots, rest.n_ranges)
    # Ranges do not wait for each other, so only the last wave is ragged.
    ragged_s = warm_s / rest.n_ranges * waves
    started_s = known.first_s + known.start_s if new else 0.0
    return (even_s + ragged_s) / 2 + started_s


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Fit what is fixed and what grows with the size, neither of them negative; least squares."""
    sizes, times = [size for size, _ in points], [time for _, time in points]
    mean_size, mean_time = _mean(sizes), _mean(times)
    spread = sum((size - mean_size) ** 2 for size in sizes)
    slope = sum((size - mean_size) * (time - mean_time) for size, time in points) / spread if spread else 0.0
    if mean_size <= 0:
        return mean_time, 0.0
    if spread == 0 or mean_time - slope * mean_size < 0:
        # Nothing tells the two apart, or it looks as if nothing were fixed.
        return 0.0, mean_time / mean_size
    return (mean_time - slope * mean_size, slope) if slope > 0 else (mean_time, 0.0)


def _doubt(ratios: Sequence[float]) -> float:
    """Return the half-width of a 95 % interval of the mean of ratios to what was fitted."""
    if len(ratios) < 3:
        return _MOST_DOUBT
    error = statistics.stdev(ratios) / math.sqrt(len(ratios))
    return min(_MOST_DOUBT, max(_LEAST_DOUBT, 2.8 * error))


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0
