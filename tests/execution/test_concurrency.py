"""How many invocations are in flight, against simulated accounts that give less than was asked for."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_root_lambda.execution.concurrency import FIRST, LONGEST_PAUSE_S, Concurrency

REFUSAL_S = 0.05


@dataclass
class Simulated:
    """An account that gives ``given(now_s)``, and a run of ranges of ``duration_s`` each."""

    concurrency: Concurrency
    given: object
    duration_s: float = 2.0
    now_s: float = 0.0
    events: list = field(default_factory=list)
    refused: int = 0
    done: int = 0
    peak: int = 0
    flown: list = field(default_factory=list)

    def run(self, ranges):
        """Run them; time passes from event to event."""
        chance, accepted, in_flight, left = random.Random(1), 0, 0, ranges
        while self.done < ranges:
            while left and in_flight < self.concurrency.allowed(self.now_s):
                left, in_flight = left - 1, in_flight + 1
                self.concurrency.started(self.now_s)
                fits = accepted < self.given(self.now_s)
                accepted += fits
                heapq.heappush(self.events, (self.now_s + (self.duration_s if fits else REFUSAL_S), fits))
            self.peak = max(self.peak, accepted)
            self.flown.append((self.now_s, accepted))
            later_s = self.concurrency.next_change_s(self.now_s) if left else None
            if later_s is not None and (not self.events or later_s < self.events[0][0]):
                self.now_s = later_s
                continue
            self.now_s, fits = heapq.heappop(self.events)
            in_flight -= 1
            if fits:
                accepted, self.done = accepted - 1, self.done + 1
                self.concurrency.answered(self.now_s)
            else:
                left, self.refused = left + 1, self.refused + 1
                self.concurrency.refused(self.now_s, in_flight, chance.random())
            assert self.now_s < 1e6, "the run does not get on"
        return self


@given(st.integers(1, 300), st.integers(1, 1000), st.floats(0.2, 60))
@settings(max_examples=60, deadline=None)
def test_a_run_ends_and_wastes_little(gives, limit, duration_s):
    """Whatever the account gives, few are asked for in vain."""
    ranges = 1000
    run = Simulated(Concurrency(limit), lambda _: gives, duration_s).run(ranges)
    assert run.refused <= 0.1 * ranges + 0.5 * min(gives, limit) + FIRST
    assert run.peak <= min(gives, limit)
    waves = ranges / min(gives, limit)
    assert run.now_s <= 1.3 * duration_s * waves + 2 * duration_s + 5


def test_an_account_of_two():
    """100 tasks on an account that gives 2: all are done; where its quota is known, few are refused."""
    known = Simulated(Concurrency(2), lambda _: 2, 1.0).run(100)
    assert known.refused == 0
    run = Simulated(Concurrency(1000), lambda _: 2, 1.0).run(100)
    assert run.refused <= FIRST + 10
    assert run.now_s < 55


def test_it_converges_when_the_account_gives_more():
    """Once others leave, a run takes within 10 % of what there is."""
    run = Simulated(Concurrency(1000), lambda now_s: 50 if now_s < 60 else 100, 1.0).run(20_000)
    late = [accepted for now_s, accepted in run.flown if now_s > 0.75 * run.now_s and now_s < run.now_s - 2]
    assert min(late) >= 90


def test_it_gives_way_when_the_account_gives_less():
    """When others come, a run stops asking for what it had."""
    run = Simulated(Concurrency(1000), lambda now_s: 100 if now_s < 20 else 10, 1.0).run(4_000)
    assert run.refused <= 400


def test_a_thousand_are_started_within_three_seconds():
    """An account that gives all is used soon."""
    concurrency = Concurrency(1000)
    concurrency.started(0.0)
    assert concurrency.allowed(0.0) == FIRST
    assert concurrency.allowed(2.5) == 1000
    assert concurrency.next_change_s(2.5) is None


def test_where_nobody_refuses_there_is_no_ramp():
    """Threads of this process start together."""
    assert Concurrency(7, ramps=False).allowed(0.0) == 7


def test_a_pause_when_nothing_is_in_flight():
    """Where the account gives nothing, tries are ever rarer, up to a limit; an answer ends that."""
    concurrency, now_s, pauses = Concurrency(10), 0.0, []
    for _ in range(12):
        concurrency.refused(now_s, 0, 0.999_999)
        assert concurrency.allowed(now_s) == 0
        pauses.append(concurrency.next_change_s(now_s) - now_s)
        now_s += pauses[-1]
        assert concurrency.allowed(now_s) == 1
    assert pauses[:3] == pytest.approx([0.5, 1.0, 2.0], rel=1e-4)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE_S, rel=1e-4)
    concurrency.answered(now_s)
    concurrency.refused(now_s, 0, 0.999_999)
    assert concurrency.next_change_s(now_s) - now_s == pytest.approx(0.5, rel=1e-4)
