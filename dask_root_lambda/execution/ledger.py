"""The account of what an executor does: sums per run and together, kept while it runs."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dask_root_lambda.cost.estimate import Sample
from dask_root_lambda.cost.prices import NO_PRICES, Prices
from dask_root_lambda.cost.report import Report, RunReport
from dask_root_lambda.execution.budget import Spending
from dask_root_lambda.execution.readings import Readings
from dask_root_lambda.invocation.invokers import Invocation, Invoker
from dask_root_lambda.protocol.traffic import Traffic
from lambda_runtime import traffic

CALLS = "calls"
"""The run that plain function calls are counted under."""

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
    since_s: float = 0.0
    began_s: float = math.inf
    """When its first task began."""
    failed: bool = False
    _standing: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By execution, since something is in flight: what its function costs besides the invocations, USD per
    second, and since when it is used."""
    _sums: dict[str, float] = field(default_factory=lambda: defaultdict(int))
    """By the names that they have in the report, which is made only where somebody asks for it."""
    _peak_memory_mb: float = 0.0
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=_SAMPLES))
    """What the last invocations that succeeded took; the size of a range is its entries."""
    _executions: tuple[str, ...] = ()
    begun_s: list[float] = field(default_factory=list)
    """When its ranges began, in order."""
    ended_s: list[float] = field(default_factory=list)
    """When ranges of it were done, in order."""

    @property
    def ranges(self) -> int:
        """Ranges of the run."""
        return int(self._sums["ranges"])

    @property
    def retries(self) -> int:
        """Tries after the first."""
        return int(self._sums["retries"])

    @property
    def spending(self) -> Spending:
        """What was spent on it."""
        usd, invocations = self._sums["usd"] + sum(self.readings.usd), int(self._sums["invocations"])
        return Spending(usd, invocations, self.in_flight, max(0, self.ranges - self.ranges_done))

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
        sums["usd"] = own_usd + read["s3_usd"] + read["transfer_usd"]
        return RunReport(
            self.run,
            executions=self._executions,
            why=self.why,
            peak_memory_mb=self._peak_memory_mb,
            **sums,
            **read,
        )


@dataclass(frozen=True)
class Progress:
    """How far a run is, for those who show it."""

    report: RunReport
    """Of the run so far."""
    ranges_done: int
    in_flight: int
    """Tasks of the run that are being run now."""
    begun_s: Sequence[float] = ()
    """When its ranges began, in order, by the ledger's clock; it grows as the run goes on."""
    ended_s: Sequence[float] = ()
    """When ranges were done, in order."""
    environments: int = 0
    """Environments that have told that they were new, in all runs."""
    start_s: float = 0.0
    """How long these took to start, in the mean; 0 where that is not known."""


class Ledger:
    """Sums per run and together; all methods may be called from any thread.

    Parameters
    ----------
    clock
        Seconds from some fixed time.
    s3_prices
        What requests to S3 cost that no function in AWS makes: the client's, and those under ``local``.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, s3_prices: Prices = NO_PRICES) -> None:
        self._clock = clock
        self._s3_prices = s3_prices
        self._usd_per_gb: dict[tuple[str, str], float] = {}
        """Price of transfer, by region of the function and source."""
        self._lock = threading.Lock()
        self._total = self._new_account("total")
        self._accounts: list[Account] = []
        self._current: dict[str, Account] = {}
        self._prices: list[Prices] = []
        self._notes: list[str] = []
        self._watchers: list[Callable[[Progress], None]] = []

    def now_s(self) -> float:
        """Return the time by the ledger's clock."""
        return self._clock()

    def watch(self, watcher: Callable[[Progress], None]) -> None:
        """Call ``watcher`` whenever a run gets on; it must be quick and thread-safe."""
        self._watchers.append(watcher)

    def begin(self, run: str, n_ranges: int, invoker: Invoker, why: str = "") -> Account:
        """Count a task that starts; the account is where the rest of it is counted.

        Parameters
        ----------
        run
            The run it belongs to, or `CALLS`.
        n_ranges
            Ranges of that run; 0 for what is no range.
        invoker
            Where it runs.
        why
            Why it has as many ranges.
        """
        now_s = self._clock()
        with self._lock:
            account = self._account(run, n_ranges)
            account.why = account.why or why
            if n_ranges:
                account.begun_s.append(now_s)
            for each in (account, self._total):
                each.begin(now_s, invoker)
            if invoker.prices not in self._prices:
                self._prices.append(invoker.prices)
        self._tell(account)
        return account

    def add(self, account: Account, invocation: Invocation, invoker: Invoker) -> None:
        """Count an invocation, whether it succeeded or not."""
        prices = self._s3_prices if invoker.prices == NO_PRICES else invoker.prices
        read = invocation.reply.usage.traffic if invocation.reply is not None else None
        with self._lock:
            for each in (account, self._total):
                data_usd = each.readings.tell(read or (), prices, invoker.region)
                each.add(invocation, data_usd)

    def take(self, account: Account, read: Iterable[Traffic]) -> None:
        """Count what was read for a result that is taken: once, however often its range was tried."""
        with self._lock:
            for each in (account, self._total):
                each.readings.take(read)

    def lose(self, account: Account) -> None:
        """Count a try of a range of which nobody knows what it read."""
        with self._lock:
            for each in (account, self._total):
                each.readings.untold += 1

    def price_transfer(self, region: str, source: Traffic, usd_per_gb: float) -> None:
        """Take note of what transfer costs from a source to functions in a region, USD per GB."""
        with self._lock:
            self._usd_per_gb[region, source.key] = usd_per_gb

    def retry(self, account: Account) -> None:
        """Count a task that is tried again."""
        with self._lock:
            for each in (account, self._total):
                each.count(retries=1)

    def grow(self, account: Account) -> None:
        """Count a task that ran out of memory, and is tried with more."""
        with self._lock:
            for each in (account, self._total):
                each.count(moved_up=1)

    def split(self, account: Account) -> None:
        """Count a range that is divided before it is tried."""
        with self._lock:
            for each in (account, self._total):
                each.count(split=1)

    def note(self, text: str) -> None:
        """Keep a sentence that the report is to say, once."""
        with self._lock:
            if text not in self._notes:
                self._notes.append(text)

    def double(self, account: Account) -> None:
        """Count a second try of a range that is slow."""
        with self._lock:
            for each in (account, self._total):
                each.count(second_tries=1)

    def mend(self, run: str) -> None:
        """Count a partial result that was found damaged, and is computed again."""
        with self._lock:
            for each in (self._account(run, 0), self._total):
                each.count(mended=1)

    def drop(self, account: Account) -> None:
        """Count an invocation whose answer nobody waits for."""
        with self._lock:
            for each in (account, self._total):
                each.count(dropped=1)

    def spending(self, account: Account | None = None) -> Spending:
        """Return what was spent on a run; without one, on all together."""
        with self._lock:
            return (account or self._total).spending

    def samples(self, run: str) -> tuple[Sample, ...]:
        """Return what the last invocations of a run took."""
        with self._lock:
            account = self._current.get(run)
            return tuple(account.samples) if account is not None else ()

    def work_s(self, run: str) -> float | None:
        """Return the seconds that all ranges of a run took together; None where some were not invoked."""
        with self._lock:
            account = self._current.get(run)
            return account.work_s if account is not None else None

    @property
    def prices(self) -> tuple[Prices, ...]:
        """The price lists that costs were reckoned with, in the order of their first use."""
        with self._lock:
            return tuple(self._prices)

    def refuse(self, account: Account) -> None:
        """Count a request that the service refused."""
        with self._lock:
            for each in (account, self._total):
                each.count(refused=1)

    def end(self, account: Account, *, is_range: bool, failed: bool, empty: bool = False) -> None:
        """Count a task that ended; ``empty`` is a range without entries."""
        now_s = self._clock()
        with self._lock:
            account.failed |= failed
            if is_range and not failed:
                account.ended_s.append(now_s)
            for each in (account, self._total):
                each.ranges_done += is_range and not failed
                each.count(done=int(not failed), failures=int(failed), empty=int(empty))
                each.end(now_s)
        self._tell(account)

    @property
    def in_flight(self) -> int:
        """Tasks that are being run now."""
        return self._total.in_flight

    def total(self) -> RunReport:
        """Return the sums over all runs."""
        with self._lock:
            return self._total.snapshot(self._clock())

    def report(self) -> Report:
        """Return everything so far."""
        with self._lock:
            now_s = self._clock()
            runs = tuple(account.snapshot(now_s) for account in self._accounts)
            client = traffic.own()
            return Report(
                runs,
                self._total.snapshot(now_s),
                tuple(self._prices),
                tuple(self._notes),
                client,
                self._s3_prices.requests_usd(client),
            )

    def progress(self, account: Account) -> Progress:
        """Return how far a run is."""
        with self._lock:
            now_s = self._clock()
            total = self._total.snapshot(now_s)
            return Progress(
                account.snapshot(now_s),
                account.ranges_done,
                account.in_flight,
                account.begun_s,
                account.ended_s,
                total.cold_starts,
                total.init_s / max(1, total.cold_starts),
            )

    def _account(self, run: str, n_ranges: int) -> Account:
        account = self._current.get(run)
        # Merges, and plain calls, come after the ranges that they belong to.
        if account is None or (n_ranges and account.over):
            account = self._new_account(run)
            self._current[run] = account
            self._accounts.append(account)
        if n_ranges and account.ranges == 0:
            for each in (account, self._total):
                each.count(ranges=n_ranges)
        return account

    def _new_account(self, run: str) -> Account:
        return Account(run, Readings(lambda region, part: self._usd_per_gb.get((region, part.key), 0.0)))

    def _tell(self, account: Account) -> None:
        if not self._watchers:
            return
        progress = self.progress(account)
        for watcher in self._watchers:
            watcher(progress)
