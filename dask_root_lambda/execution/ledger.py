"""The accounts of what an executor does: sums per run and together, kept while it runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dask_root_lambda.cost.estimate import Sample
from dask_root_lambda.cost.prices import NO_PRICES, Prices
from dask_root_lambda.cost.report import Report, RunReport
from dask_root_lambda.execution.account import Account
from dask_root_lambda.execution.budget import Spending
from dask_root_lambda.execution.readings import Readings
from dask_root_lambda.invocation.invokers import Invocation, Invoker
from dask_root_lambda.protocol.traffic import Traffic
from lambda_runtime import traffic

logger = logging.getLogger(__name__)

CALLS = "calls"
"""The run that plain function calls are counted under."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, for those who show it."""

    report: RunReport
    """Report of the run so far."""
    ranges_done: int
    """Ranges of the run that are done."""
    in_flight: int
    """Tasks of the run that have begun and are not done."""
    begun_s: Sequence[float] = ()
    """When its ranges began, in order, by the ledger's clock, without those that an earlier try had left; it
    grows as the run goes on."""
    ended_s: Sequence[float] = ()
    """When those were done, in order."""
    environments: int = 0
    """Environments that have told that they were new, in all runs."""
    start_s: float = 0.0
    """Seconds that these took to start, in the mean; 0 where that is not known."""


_FAR = "Far data was not all kept, or not taken from where it is kept:"
"""How the sentence of the report begins that says why."""


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
        self._watchers: tuple[Callable[[Progress], None], ...] = ()

    def now_s(self) -> float:
        """Return the time by the ledger's clock."""
        return self._clock()

    def watch(self, watcher: Callable[[Progress], None]) -> None:
        """Call ``watcher`` whenever a run gets on; it must be quick and thread-safe.

        One that raises is not called again.
        """
        with self._lock:
            self._watchers = (*self._watchers, watcher)

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

    @contextmanager
    def invoking(self, account: Account) -> Iterator[None]:
        """Count what is done in the block as an invocation that is being made."""
        with self._lock:
            for each in (account, self._total):
                each.invoking += 1
        try:
            yield
        finally:
            with self._lock:
                for each in (account, self._total):
                    each.invoking -= 1

    def add(self, account: Account, invocation: Invocation, invoker: Invoker) -> None:
        """Count an invocation, whether it succeeded or not."""
        prices = self._s3_prices if invoker.prices == NO_PRICES else invoker.prices
        read = invocation.reply.usage.traffic if invocation.reply is not None else None
        with self._lock:
            for each in (account, self._total):
                data_usd = each.readings.tell(read or (), prices, invoker.region)
                each.add(invocation, data_usd)
        self._note_far(invocation)

    def _note_far(self, invocation: Invocation) -> None:
        """Say why far data was not kept, of the first range that tells: others have much the same to tell."""
        problem = invocation.reply.usage.far_problem if invocation.reply is not None else ""
        if problem and not any(text.startswith(_FAR) for text in self._notes):
            self.note(f"{_FAR} {problem}. The functions' log has the rest.")

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
        self._count(account, "retries")

    def grow(self, account: Account) -> None:
        """Count a task that ran out of memory, and is tried with more."""
        self._count(account, "moved_up")

    def split(self, account: Account) -> None:
        """Count a range that is divided before it is tried."""
        self._count(account, "split")

    def note(self, text: str) -> None:
        """Keep a sentence that the report is to say, once."""
        with self._lock:
            if text not in self._notes:
                self._notes.append(text)

    def double(self, account: Account) -> None:
        """Count a second try of a range that is slow."""
        self._count(account, "second_tries")

    def mend(self, run: str) -> None:
        """Count a partial result that was found damaged, and is computed again."""
        with self._lock:
            account = self._account(run, 0)
        self._count(account, "mended")

    def drop(self, account: Account) -> None:
        """Count an invocation whose answer nobody waits for."""
        self._count(account, "dropped")

    def spending(self, account: Account | None = None) -> Spending:
        """Return what was spent on a run; without one, on all together."""
        with self._lock:
            if account is not None:
                return account.spending(account.invoking * (account.usd_each or 0.0))
            # Of runs that go on at once, one may cost many times as much as another.
            mean_usd = self._total.usd_each or 0.0
            costs_usd = (
                each.invoking * (mean_usd if each.usd_each is None else each.usd_each)
                for each in self._current.values()
            )
            return self._total.spending(sum(costs_usd))

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
        self._count(account, "refused")

    def end(
        self,
        account: Account,
        *,
        is_range: bool,
        failed: bool,
        empty: bool = False,
        left_over: bool = False,
    ) -> None:
        """Count a task that ended.

        Parameters
        ----------
        account
            Where it is counted.
        is_range
            Whether it is a range of a run.
        failed
            Whether it was given up.
        empty
            Whether it is a range without entries.
        left_over
            Whether an earlier try had left its result: then it took no time.
        """
        now_s = self._clock()
        with self._lock:
            account.failed |= failed
            if left_over:
                # It has just begun; of those that began with it, it makes no difference which is taken out.
                del account.begun_s[-1:]
            elif is_range and not failed:
                account.ended_s.append(now_s)
            for each in (account, self._total):
                each.ranges_done += is_range and not failed
                each.count(done=int(not failed), failures=int(failed), empty=int(empty))
                each.end(now_s)
            if account.over:
                # Nobody asks any more how long the rest takes; accounts are kept for the report.
                account.begun_s, account.ended_s = [], []
        self._tell(account)

    @property
    def in_flight(self) -> int:
        """Tasks that have begun and are not done."""
        return self._total.in_flight

    @property
    def invocations(self) -> int:
        """Invocations that are being made now."""
        return self._total.invoking

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

    def _count(self, account: Account, name: str) -> None:
        """Count one more of what the report has under a name."""
        with self._lock:
            for each in (account, self._total):
                each.count(**{name: 1})

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
            try:
                watcher(progress)
            except Exception as error:  # whatever a display raises: the task that it looks at goes on
                logger.warning("how far runs are is not shown any more: %r", error)
                with self._lock:
                    self._watchers = tuple(each for each in self._watchers if each is not watcher)
