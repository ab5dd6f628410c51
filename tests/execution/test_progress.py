"""How far runs are, in words and figures, on a bar or in lines."""

from __future__ import annotations

import pytest

from dask_root_lambda.cost.report import RunReport
from dask_root_lambda.execution.ledger import Ledger, Progress
from dask_root_lambda.execution.phases import duration, figures, phase
from dask_root_lambda.execution.progress import Lines, Runs
from dask_root_lambda.plan import arrivals

from .test_ledger import Clock, Place, invocation


def progress(done=0, ranges=64, in_flight=2, execution="lambda", **others):
    report = RunReport("a", ranges=ranges, done=done, executions=(execution,))
    return Progress(report, done, in_flight, **others)


@pytest.mark.parametrize(
    ("where", "now_s", "expected"),
    [
        (progress(begun_s=[0.0, 0.0]), 1.0, "starting environments"),
        (progress(begun_s=[0.0, 0.0]), 9.0, "compiling"),
        (progress(begun_s=[0.0, 0.0], start_s=20.0), 9.0, "starting environments"),
        (progress(begun_s=[0.0, 0.0], environments=2), 1.0, "compiling"),
        (progress(begun_s=[0.0, 0.0], execution="local"), 1.0, "compiling"),
        (progress(done=1), 1.0, "running"),
        (progress(done=64, in_flight=0), 1.0, "merging"),
    ],
)
def test_phases_are_named(where, now_s, expected):
    """Environments start and compile before anything is done, and merges come after the last range."""
    assert phase(where, now_s) == expected


def test_figures():
    """Entries in a second, cost and time left stand where they are known."""
    report = RunReport("a", ranges=64, done=8, invocations=8, entries=8_000_000, wall_s=4.0, usd=0.00123)
    begun = [index * 0.5 for index in range(9)]
    known = Progress(report, 8, 1, begun, [each + 0.5 for each in begun[:8]])
    assert list(figures(known, 4.0, 1)) == ["2,000,000 entries/s", "0.0012 USD", "about 28 s left"]
    assert list(figures(progress(), 1.0, 1)) == []


def test_what_an_earlier_try_has_left_tells_nothing():
    """Ranges that are there at once do not make the others look short."""
    clock = Clock()
    ledger = Ledger(clock)

    def end(account, **options):
        ledger.end(account, is_range=True, failed=False, **options)

    for index in range(4):
        account = ledger.begin("a", 64, Place())
        # Between two that run, nine are there.
        for _ in range(9):
            end(ledger.begin("a", 64, Place()), left_over=True)
        clock.now_s = index + 1.0
        end(account)
    ledger.begin("a", 64, Place())
    known = ledger.progress(account)
    assert (known.ranges_done, len(known.begun_s), len(known.ended_s)) == (40, 5, 4)
    assert list(figures(known, 4.0, 1))[-1] == "about 24 s left"


def test_durations():
    """As precise as anybody wants to know."""
    assert [duration(each) for each in (0.2, 42.4, 90.0, 5400.0)] == ["1 s", "42 s", "2 min", "1.5 h"]


class Screen:
    """A display that takes note."""

    def __init__(self, run, n_ranges):
        self.shown, self.closed = [], False

    def due(self, doing, done, now_s):
        """Always."""
        return True

    def show(self, doing, done, figures, now_s):
        """Take note."""
        self.shown.append((doing, done))

    def close(self):
        """Take note."""
        self.closed = True


@pytest.fixture
def watched():
    """A ledger whose runs are shown, and the displays."""
    ledger, screens = Ledger(Clock()), {}
    ledger.watch(Runs(ledger, lambda run, n: screens.setdefault(run, Screen(run, n))).update)
    return ledger, screens


@pytest.mark.parametrize("outcome", ["done", "failed"])
def test_a_run_is_shown_until_its_result_is_there(watched, outcome):
    """The merges belong to it; of those that fail, too, its steps tell."""
    ledger, screens = watched
    account = ledger.begin("run-of-this-test", 1, Place("local"))
    ledger.add(account, invocation(), Place())
    ledger.end(account, is_range=True, failed=False)
    (screen,) = screens.values()
    assert not screen.closed
    if outcome == "done":
        arrivals.arrived("run-of-this-test", [])
    else:
        arrivals.failed("run-of-this-test", ValueError())
    assert screen.closed
    assert screen.shown == [("compiling", 0), ("merging", 1), (outcome, 1)]


def test_a_run_whose_ranges_fail_is_over(watched):
    """When nothing of it is in flight any more."""
    ledger, screens = watched
    accounts = [ledger.begin("a", 9, Place()) for _ in range(2)]
    ledger.end(accounts[0], is_range=True, failed=True)
    assert not screens["a"].closed
    ledger.end(accounts[1], is_range=True, failed=True)
    assert screens["a"].closed
    assert screens["a"].shown[-1] == ("stopped", 0)


@pytest.mark.parametrize("method", ["show", "close"])
def test_a_display_that_fails_is_left_alone(watched, monkeypatch, method):
    """A terminal that is gone is no reason for a step of the run to fail, and the other runs are shown."""
    ledger, screens = watched

    def fail(*_):
        raise BrokenPipeError("the terminal is gone")

    monkeypatch.setattr(Screen, method, fail)
    account = ledger.begin("run-of-this-test", 1, Place("local"))
    monkeypatch.undo()
    monkeypatch.setattr(screens["run-of-this-test"], method, fail)
    other = ledger.begin("another", 1, Place("local"))
    ledger.end(account, is_range=True, failed=False)
    arrivals.arrived("run-of-this-test", [])
    ledger.end(other, is_range=True, failed=False)
    assert screens["another"].shown == [("compiling", 0), ("merging", 1)]


def test_lines(capsys):
    """One for each phase and each tenth, and none between."""
    lines = Lines("0123456789abcdef", 40)
    shown = [("compiling", 0), *(("running", done) for done in range(40)), ("merging", 40)]
    for doing, done in shown:
        if lines.due(doing, done, 0.0):
            lines.show(doing, done, ["1 entries/s"], 0.0)
    written = capsys.readouterr().err.splitlines()
    assert len(written) == 12
    assert written[0] == "run 01234567: compiling, 0 of 40 ranges, 0%, 1 entries/s"
    assert written[2] == "run 01234567: running, 4 of 40 ranges, 10%, 1 entries/s"
