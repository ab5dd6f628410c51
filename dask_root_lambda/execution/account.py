"""The account of one run: what it did and cost so far."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from dask_root_lambda.cost.estimate import Sample
from dask_root_lambda.cost.report import RunReport
from dask_root_lambda.execution.budget import Spending
from dask_root_lambda.execution.readings import Readings
from dask_root_lambda.invocation.invokers import Invocation, Invoker

_SAMPLES = 64
"""Invocations of a run that are remembered one by one."""


@dataclass
class Account:
    """A run's report so far. Not thread-safe: the ledger holds its lock."""

    run: str
    readings: Readings = field(default_factory=Readings)
    why: str = ""
    """Why it has as many ranges as it has."""
    ranges_done: int = 0
    in_flight: int = 0
    """Tasks that have begun and are not done; some of them may wait for another try."""
    invoking: int = 0
    """Invocations that are being made now."""
    since_s: float = 0.0
    """Since when something is in flight."""
    began_s: float = math.inf
    """When its first task began."""
    failed: bool = False
    _standing: dict[str, tuple[float, float]] = field(default_factory=dict)
    """What the function of each execution costs besides the invocations, USD per second, and since when it is
    used; empty while nothing is in flight."""
    _sums: dict[str, float] = field(default_factory=lambda: defaultdict(int))
    """Sums by their names in the report, which is made only where somebody asks for it."""
    _peak_memory_mb: float = 0.0
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    """What the last invocations that succeeded took; the size of a range is its entries."""
    _executions: tuple[str, ...] = ()
    begun_s: list[float] = field(default_factory=list)
    """When its ranges began, in order, without those that an earlier try had left."""
    ended_s: list[float] = field(default_factory=list)
    """When those were done, in order."""

    @property
    def ranges(self) -> int:
        """Ranges of the run."""
        return int(self._sums["ranges"])

    @property
    def retries(self) -> int:
        """Tries after the first."""
        return int(self._sums["retries"])

    @property
    def usd_each(self) -> float | None:
        """Mean cost of its invocations, USD; None before the first is answered."""
        return self._usd / self._sums["invocations"] if self._sums["invocations"] else None

    @property
    def _usd(self) -> float:
        """Cost of what was answered, with its reading from S3."""
        return self._sums["usd"] + sum(self.readings.usd)

    def spending(self, in_flight_usd: float) -> Spending:
        """Return what was spent on it, with what is in flight."""
        invocations = int(self._sums["invocations"])
        return Spending(self._usd, invocations, in_flight_usd, max(0, self.ranges - self.ranges_done))

    @property
    def work_s(self) -> float | None:
        """Seconds that its invocations took, if each of its ranges was invoked."""
        every = self._sums["invocations"] - self.retries >= self.ranges > 0
        return self._sums["duration_s"] if every else None

    @property
    def over(self) -> bool:
        """Whether nothing more belongs to it: the same graph on the same data begins a new one."""
        complete = 0 < self.ranges <= self.ranges_done
        return complete or (self.failed and self.in_flight == 0)

    def begin(self, now_s: float, invoker: Invoker) -> None:
        """Count a task that starts."""
        if self.in_flight == 0:
            self.since_s = now_s
            self.began_s = min(self.began_s, now_s)
        self.in_flight += 1
        self._standing.setdefault(invoker.execution, (invoker.standing_usd_per_s, now_s))
        if invoker.execution not in self._executions:
            self._executions = (*self._executions, invoker.execution)

    def end(self, now_s: float) -> None:
        """Count a task that ended."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self.count(wall_s=now_s - self.since_s, usd=self._standing_usd(now_s))
            self._standing.clear()

    def _standing_usd(self, now_s: float) -> float:
        """Return what the functions in use have cost, besides the invocations, since something is in flight.

        One that the run was switched away from is kept, and paid, all the same.
        """
        return sum(usd_per_s * (now_s - since_s) for usd_per_s, since_s in self._standing.values())

    def count(self, **increments: float) -> None:
        """Add to fields of the report."""
        for name, value in increments.items():
            self._sums[name] += value

    def add(self, invocation: Invocation, data_usd: float) -> None:
        """Count an invocation, of which it is known what reading its data costs."""
        bill, usage = invocation.billing, invocation.reply.usage if invocation.reply else None
        self.count(
            invocations=1,
            cold_starts=int(bill.cold),
            init_s=(bill.init_s or 0.0) + (bill.restore_s or 0.0),
            duration_s=bill.duration_s,
            billed_s=bill.billed_s,
            gb_seconds=bill.gb_seconds,
            usd=invocation.usd,
            entries=usage.entries if usage else 0,
            bytes_up=invocation.bytes_up,
            bytes_down=invocation.bytes_down,
        )
        self._peak_memory_mb = max(self._peak_memory_mb, bill.peak_memory_mb)
        if usage is not None and invocation.error is None:
            sample = Sample(usage.entries, bill.duration_s, bill, usage.environment, data_usd=data_usd)
            self.samples.append(sample)

    def snapshot(self, now_s: float) -> RunReport:
        """Return the report, with the time in flight, and what that costs, up to now."""
        sums: dict[str, Any] = dict(self._sums)
        sums["wall_s"] = sums.get("wall_s", 0.0) + (now_s - self.since_s if self.in_flight else 0.0)
        read = self.readings.to_report()
        own_usd = sums.get("usd", 0.0) + self._standing_usd(now_s)
        sums["usd"] = own_usd + read["s3_usd"] + read["transfer_usd"] + read["kept_usd"]
        return RunReport(
            self.run,
            executions=self._executions,
            why=self.why,
            peak_memory_mb=self._peak_memory_mb,
            **sums,
            **read,
        )
