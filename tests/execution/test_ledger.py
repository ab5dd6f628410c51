"""The account of what was done adds up, per run and together."""

from __future__ import annotations

import json

import pytest

from dask_root_lambda.cost.billing import Billing
from dask_root_lambda.cost.prices import GB, NO_PRICES, prices_of
from dask_root_lambda.execution.ledger import CALLS, Ledger
from dask_root_lambda.invocation.invokers import Invocation
from dask_root_lambda.protocol.task import Reply, Usage
from dask_root_lambda.protocol.traffic import LOCAL, Traffic

READ = (Traffic("s3://physics", bytes_read=1000, gets=2, lists=1), Traffic(LOCAL, bytes_read=10, gets=1))


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


class Place:
    """As much of an invoker as a ledger looks at."""

    prices = prices_of("us-east-1")
    region = "us-east-1"

    def __init__(self, execution="lambda", standing_usd_per_s=0.0):
        self.execution = execution
        self.standing_usd_per_s = standing_usd_per_s


def invocation(*, cold=False, entries=10, billed_s=2.0, usd=0.25, peak=100.0, reply=True, read=READ):
    bill = Billing(1.5, billed_s, 1024, peak, init_s=0.5 if cold else None)
    usage = Usage(entries=entries, traffic=read)
    return Invocation(Reply(usage=usage) if reply else None, None, bill, usd, 300, 400)


def test_sums_per_run_and_together():
    """Everything that is counted for a run is counted in the total."""
    clock = Clock()
    ledger = Ledger(clock)
    for run, times in (("a", 2), ("b", 1)):
        for index in range(times):
            account = ledger.begin(run, times, Place())
            ledger.add(account, invocation(cold=index == 0, peak=100.0 + index), Place())
            ledger.take(account, READ)
            clock.now_s += 4.0
            ledger.end(account, is_range=True, failed=False)
    report = ledger.report()
    assert [(run.run, run.ranges, run.done, run.invocations, run.entries) for run in report.runs] == [
        ("a", 2, 2, 2, 20),
        ("b", 1, 1, 1, 10),
    ]
    total = report.total
    assert (total.ranges, total.invocations, total.cold_starts, total.entries) == (3, 3, 2, 30)
    assert (total.billed_s, total.gb_seconds, total.init_s) == (6.0, 6.0, 1.0)
    assert total.usd == pytest.approx(0.75 + 3 * (2 * 0.0000004 + 0.000005))
    assert total.peak_memory_mb == 101.0
    assert (total.bytes_up, total.bytes_down, total.bytes_read) == (900, 1200, 3030)
    assert total.wall_s == 12.0
    assert total.entries_per_s == 2.5


def test_wall_time_counts_overlap_once_and_pauses_not_at_all():
    """Two tasks at once take their common time once; between runs the clock stands."""
    clock = Clock()
    ledger = Ledger(clock)
    first = ledger.begin("a", 2, Place())
    clock.now_s = 2.0
    second = ledger.begin("a", 2, Place())
    clock.now_s = 3.0
    ledger.end(first, is_range=True, failed=False)
    clock.now_s = 5.0
    assert ledger.total().wall_s == 5.0
    ledger.end(second, is_range=True, failed=False)
    clock.now_s = 100.0
    assert ledger.report().runs[0].wall_s == 5.0


def test_a_snapshot_costs_while_something_is_in_flight():
    """SnapStart's snapshot is charged by time: what a run takes of it is part of its cost."""
    clock = Clock()
    ledger = Ledger(clock)
    account = ledger.begin("a", 1, Place(standing_usd_per_s=0.5))
    clock.now_s = 4.0
    ledger.end(account, is_range=True, failed=False)
    clock.now_s = 100.0
    assert ledger.report().runs[0].usd == 2.0


@pytest.mark.parametrize("failed", [False, True])
def test_a_run_that_is_over_keeps_sums_only(failed):
    """However many ranges it had: reports of many runs are kept."""
    ledger = Ledger(Clock())
    accounts = [ledger.begin("a", 3, Place()) for _ in range(3)]
    for account in accounts:
        assert len(account.begun_s) == 3
        ledger.end(account, is_range=True, failed=failed)
    assert (account.begun_s, account.ended_s) == ([], [])


def test_the_same_run_again_is_counted_anew():
    """A graph that is run a second time on the same data is a second run."""
    ledger = Ledger(Clock())
    for _ in range(2):
        ledger.end(ledger.begin("a", 1, Place()), is_range=True, failed=False)
    assert [run.done for run in ledger.report().runs] == [1, 1]


def test_merges_belong_to_the_ranges_before_them():
    """Merges on Lambda follow when all ranges are done, and are of the same run; the next run is another."""
    ledger = Ledger(Clock())
    for _ in range(2):
        ledger.end(ledger.begin("a", 1, Place()), is_range=True, failed=False)
        ledger.end(ledger.begin("a", 0, Place()), is_range=False, failed=False)
    assert [(run.ranges, run.done) for run in ledger.report().runs] == [(1, 2), (1, 2)]


def test_a_run_after_a_failed_one_is_counted_anew():
    """What is run again after a failure does not add to the failed run."""
    ledger = Ledger(Clock())
    ledger.end(ledger.begin("a", 5, Place()), is_range=True, failed=True)
    ledger.end(ledger.begin("a", 5, Place()), is_range=True, failed=False)
    assert [(run.failures, run.done) for run in ledger.report().runs] == [(1, 0), (0, 1)]


def test_failures_retries_and_unanswered_invocations_are_counted():
    """An invocation without an answer is billed like any other."""
    ledger = Ledger(Clock())
    account = ledger.begin(CALLS, 0, Place())
    ledger.add(account, invocation(reply=False), Place())
    ledger.retry(account)
    ledger.add(account, invocation(), Place())
    ledger.end(account, is_range=False, failed=True)
    total = ledger.total()
    assert (total.invocations, total.retries, total.failures, total.usd, total.entries) == (
        2,
        1,
        1,
        pytest.approx(0.5, abs=1e-4),
        10,
    )


def test_a_switch_in_mid_run_names_both_executions():
    """The report says where a run ran."""
    ledger = Ledger(Clock())
    for execution in ("lambda", "local", "lambda"):
        ledger.end(ledger.begin("a", 3, Place(execution)), is_range=True, failed=False)
    assert ledger.report().runs[0].executions == ("lambda", "local")


def test_watchers_see_progress():
    """Whoever watches is told how many ranges are done and in flight."""
    seen = []
    ledger = Ledger(Clock())
    ledger.watch(
        lambda progress: seen.append((progress.ranges_done, progress.in_flight, progress.report.ranges))
    )
    account = ledger.begin("a", 2, Place())
    ledger.end(account, is_range=True, failed=False)
    assert seen == [(0, 1, 2), (1, 0, 2)]


@pytest.fixture
def report():
    ledger = Ledger(Clock())
    account = ledger.begin("a", 4, Place())
    ledger.add(account, invocation(cold=True), Place())
    ledger.end(account, is_range=True, failed=False, empty=True)
    return ledger.report()


def test_the_report_prints_what_was_asked_for(report):
    """The table names cost, GB-seconds, cold starts, memory, entries, and the date of the prices."""
    text = str(report)
    for part in (
        "0.250006 USD, of it 0.000006 for requests to S3",
        "2.0 GB-s",
        "INIT 0.5 s",
        "100 MB",
        "4, 1 of them empty",
        "us-east-1 on 2026-",
    ):
        assert part in text
    assert "fewer clusters" in text


def test_the_report_renders_in_a_notebook(report):
    """Jupyter gets the same rows as HTML."""
    rendered = report._repr_html_()
    assert "<table>" in rendered
    assert "0.250006 USD" in rendered


@pytest.fixture
def session():
    """The report of twelve runs, each of which cost more than the one before."""
    ledger = Ledger(Clock())
    for number in range(12):
        account = ledger.begin(f"{number:02}f0954a221593573ce35ceac860dd40", 1, Place())
        ledger.add(account, invocation(usd=number / 8, entries=1000 * number), Place())
        ledger.end(account, is_range=True, failed=False)
    return ledger.report()


def test_each_run_has_a_row(session):
    """With several runs, what each cost stands below the total: of the last ten, under short names."""
    lines = str(session).splitlines()
    (head,) = [index for index, line in enumerate(lines) if line.startswith("run ")]
    rows = [line.split() for line in lines[head + 1 : head + 11]]
    assert [row[0] for row in rows] == [f"{number:02}f0954a" for number in range(2, 12)]
    assert rows[-1][1:] == ["lambda", "1", "1", "0", "2.0", "s", "1.375006", "11,000", "0.0", "s"]
    assert len({len(line) for line in lines[head : head + 11]}) == 1
    assert "The last 10 of 12 runs" in str(session)


def test_each_run_has_a_row_in_a_notebook(session, report):
    """Jupyter gets the runs as a table of their own, where there are several."""
    assert session._repr_html_().count("<table>") == 2
    assert "<td>11f0954a</td>" in session._repr_html_()
    assert report._repr_html_().count("<table>") == 1
    assert "\nrun " not in str(report)


def test_the_report_is_plain_data(report):
    """to_dict is JSON, with the total, the runs and the prices."""
    data = json.loads(json.dumps(report.to_dict()))
    assert data["total"]["usd"] == pytest.approx(0.25, abs=1e-4)
    assert data["total"]["again"][0]["source"] == LOCAL
    assert data["runs"][0]["run"] == "a"
    assert data["prices"][0]["region"] == "us-east-1"


def test_what_a_function_costs_while_it_is_kept_outlasts_a_switch():
    """SnapStart's price counts from its first use until nothing is in flight, wherever the rest runs."""
    clock = Clock()
    ledger = Ledger(clock)
    account = ledger.begin("run", 2, Place(standing_usd_per_s=0.5))
    clock.now_s = 10.0
    assert ledger.total().usd == 5.0
    ledger.begin("run", 2, Place("local"))
    ledger.end(account, is_range=True, failed=False)
    clock.now_s = 20.0
    ledger.end(account, is_range=True, failed=False)
    clock.now_s = 30.0
    assert ledger.report().runs[0].usd == ledger.total().usd == 10.0


def test_what_a_range_read_counts_once_and_every_try_costs():
    """Of two tries, that whose result is taken is in the bytes; the other is named beside, and paid."""
    ledger = Ledger(Clock())
    account = ledger.begin("a", 1, Place())
    for _ in range(2):
        ledger.add(account, invocation(usd=0.0), Place())
    ledger.take(account, READ)
    for report in (ledger.report().runs[0], ledger.total()):
        assert report.traffic == tuple(sorted(READ, key=lambda each: each.key))
        assert report.again == report.traffic
        assert report.bytes_read == 1010
        assert report.usd == report.s3_usd == pytest.approx(2 * (2 * 0.0000004 + 0.000005))
    assert "tried again   s3://physics, 1.0 KB, 2 GET, 1 LIST" in str(ledger.report())


def test_tries_that_do_not_tell_are_counted():
    """Nobody knows what they read: the report says of how many."""
    ledger = Ledger(Clock())
    ledger.lose(ledger.begin("a", 1, Place()))
    assert ledger.total().untold == 1
    assert "Of 1 tries nobody knows what they read" in str(ledger.report())


def test_transfer_between_regions_is_part_of_the_cost():
    """It is priced by what was read, also by what was read before the price was known; budgets see it."""
    ledger, far = Ledger(Clock()), Traffic("s3://far", bytes_read=GB // 2)
    account = ledger.begin("a", 1, Place())
    answer = Invocation(Reply(usage=Usage(traffic=(far,))), None, Billing(), 0.0, 0, 0)
    ledger.add(account, answer, Place())
    ledger.price_transfer("us-east-1", far, 0.02)
    ledger.price_transfer("eu-west-1", far, 5.0)
    assert ledger.total().transfer_usd == ledger.spending(account).usd == pytest.approx(0.01)
    assert "0.010000 for transfer between regions" in str(ledger.report())


def test_what_runs_here_pays_the_requests():
    """Under local execution Lambda costs nothing, S3 does; another S3 than AWS's does not."""
    ledger = Ledger(Clock(), prices_of("us-east-1"))
    here = Place("local")
    here.prices, here.region = NO_PRICES, ""
    account = ledger.begin("a", 1, here)
    read = Traffic("s3://a", gets=1000), Traffic("s3://a", "https://s3.cern.ch", gets=1000)
    ledger.add(account, Invocation(Reply(usage=Usage(traffic=read)), None, Billing(), 0.0, 0, 0), here)
    assert ledger.total().usd == pytest.approx(0.0004)
