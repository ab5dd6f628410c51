"""Looking for programs whose results differ from local ROOT's."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import hypothesis
from hypothesis import HealthCheck, Phase

from fuzz.generator import programs
from fuzz.programs import Program
from fuzz.running import Outcome
from fuzz.shrinking import shrink

_SHRINKING_S = 60.0
_SETTINGS = hypothesis.settings(
    max_examples=100,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Finding:
    """A program whose results differ from local ROOT's, made small."""

    program: Program
    outcome: Outcome


@dataclass
class Summary:
    """What a search did."""

    findings: list[Finding] = field(default_factory=list)
    """The first of each kind."""
    counts: Counter[str] = field(default_factory=Counter)
    """Programs by status."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Programs that were refused, by the reason."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Programs that differ, by kind."""

    def is_new(self, outcome: Outcome) -> bool:
        """Count an outcome; tell whether it is the first finding of its kind."""
        self.counts[outcome.status] += 1
        if outcome.status == "refused":
            self.refusals[outcome.kind] += 1
        self.kinds[outcome.kind] += outcome.found
        return outcome.found and self.kinds[outcome.kind] == 1

    @property
    def programs(self) -> int:
        """How many programs were run, those of shrinking not counted."""
        return self.counts.total()


def search(
    run: Callable[[Program], Outcome],
    *,
    seed: int,
    n_programs: int,
    seconds: float = float("inf"),
    tell: Callable[[Finding], None] = lambda _: None,
) -> Summary:
    """Look for programs whose results differ; go on after each, for other kinds.

    Parameters
    ----------
    run
        Runs a program.
    seed
        Where hypothesis begins.
    n_programs, seconds
        Programs to be run, and how long, at most.
    tell
        Called with each finding.
    """
    end_s = time.monotonic() + seconds
    summary = Summary()
    seen: set[Program] = set()

    def examine(program: Program) -> None:
        if program in seen or summary.programs >= n_programs or time.monotonic() > end_s:
            return
        seen.add(program)
        outcome = run(program)
        if summary.is_new(outcome):
            summary.findings.append(Finding(*shrink(program, outcome, run, _SHRINKING_S)))
            tell(summary.findings[-1])

    while summary.programs < n_programs and time.monotonic() < end_s:
        _generate(examine, seed)
        seed += 1
    return summary


def _generate(examine: Callable[[Program], None], seed: int) -> None:
    """Make some programs."""
    generated = hypothesis.given(programs())(examine)
    hypothesis.seed(seed)(hypothesis.settings(_SETTINGS)(generated))()
