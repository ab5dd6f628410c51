"""Small programs, drawn at random, give local ROOT's results; what finds those that do not can be trusted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from fuzz import refusals, workers
from fuzz.generator import programs
from fuzz.programs import Action, Graph, Program, Step, booking, script
from fuzz.running import Outcome
from fuzz.search import search
from fuzz.shrinking import shrink, simpler
from fuzz.sources import SOURCES
from fuzz.values import differences, plain
from fuzz.workers import Worker
from tests.conftest import ROOT

SEED, PROGRAMS = 9, 25
"""What ``make test`` runs. ``make fuzz`` goes on."""
COUNT = Program((Graph("one file", (), (Action(0, "Count", ""),)),))
PAGE = Path(__file__).parents[1] / "docs" / "refused.md"


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """A process that runs programs."""
    with workers.data_folder() as data:
        worker = Worker(data)
        yield worker
        worker.close()


@pytest.mark.timeout(600)
def test_programs_give_the_results_of_local_root(worker):
    """Bit for bit where the order of addition does not matter, else to 1e-12 of the sum of magnitudes."""
    summary = search(worker.run, seed=SEED, n_programs=PROGRAMS)
    assert not summary.findings, "\n".join(
        script(found.program, f"{found.outcome.status}: {found.outcome.what}") for found in summary.findings
    )
    assert summary.counts["same"] > summary.programs / 2


def test_a_crash_is_an_outcome(worker):
    """A program that ends its process is told, and the next one runs in another process."""
    code = '"y", "raise(SIGSEGV); return 1.;"'
    crash = Graph("one file", (Step(0, "Define", code),), (Action(1, "Sum", '"y"'),))
    outcome = worker.run(Program((crash,)))
    assert outcome.status == "invalid"
    assert worker.run(COUNT) == Outcome("same")


def test_a_program_that_local_root_refuses_is_none(worker):
    """It tells nothing of this package."""
    graph = Graph("one file", (), (Action(0, "Sum", '"nowhere"'),))
    assert worker.run(Program((graph,))).status == "invalid"


def test_a_program_that_does_not_compile_spoils_none_after_it(worker):
    """ROOT compiles nothing new in its process any more: the next one runs in another process."""
    text = Graph("one file", (Step(0, "Define", '"s", "std::string()"'),), (Action(1, "Sum", '"s"'),))
    assert worker.run(Program((text,))).status == "invalid"
    other = Graph("one file", (Step(0, "Define", '"y", "std::sqrt(x * x + 3)"'),), (Action(1, "Max", '"y"'),))
    assert worker.run(Program((other,))) == Outcome("same")


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_can_be_read(worker, source):
    """By local ROOT at least: a source that cannot be read would test nothing."""
    graph = Graph(source, (), (Action(0, "Count", ""),))
    assert worker.run(Program((graph,))).status != "invalid"


def test_the_page_of_refusals_is_the_list_that_is_used():
    """docs/refused.md names each of them, and no others."""
    rows = re.findall(r"^\| ([^|:]+)[:|]", PAGE.read_text(), re.MULTILINE)
    assert [row.strip() for row in rows[1:]] == list(refusals.REFUSALS)


@given(programs())
@settings(max_examples=50, database=None, suppress_health_check=list(HealthCheck), deadline=None)
def test_programs_are_scripts(program):
    """What is printed is Python, and holds the program."""
    text = script(program, "differs: a, b\nand c")
    assigned = next(node for node in ast.parse(text).body if isinstance(node, ast.Assign))
    names = {"Program": Program, "Graph": Graph, "Step": Step, "Action": Action}
    assert eval(compile(ast.Expression(assigned.value), "", "eval"), names) == program
    for graph in program.graphs:
        ast.parse(booking(graph))


@given(programs())
@settings(max_examples=50, database=None, suppress_health_check=list(HealthCheck), deadline=None)
def test_shrinking_ends(program):
    """Each program is one of few smaller ones away from the smallest, which counts one file's entries."""
    found = Outcome("differs", "", "x")
    smallest, _ = shrink(program, found, lambda _: found, 10)
    assert not list(simpler(smallest))
    assert replace(smallest, graphs=()) == replace(COUNT, graphs=())
    assert len(smallest.graphs[0].actions) == 1
    assert not smallest.graphs[0].steps


class TestDifferences:
    """What is told apart."""

    def test_bits(self):
        """Without a scale, numbers are equal or not."""
        assert list(differences(1.0, 1.0, 0)) == []
        assert list(differences(1.0, 1.0 + 1e-15, 0)) == [": 1.000000000000001 instead of 1.0"]
        assert list(differences(1.0, 1.0 + 1e-15, 1)) == []
        assert list(differences(1.0, 1.0 + 1e-11, 1))

    def test_nan_is_only_nan(self):
        """As local ROOT's would be."""
        nan = float("nan")
        assert list(differences(nan, nan, 0)) == []
        assert list(differences(0.0, nan, 1))
        assert list(differences(nan, 0.0, 1))

    def test_types(self):
        """A whole number is no other number, text no number."""
        assert list(differences(1, 1.0, 0))
        assert list(differences("1", 1, 0))

    def test_histograms(self):
        """A bin, an error, a limit, the number of entries."""
        one, other = (ROOT.TH1D("h", "", 3, 0, 3) for _ in range(2))
        assert list(differences(plain(one), plain(other), 0)) == []
        other.Fill(1.5)
        assert {
            text.partition("[")[0].partition(":")[0] for text in differences(plain(one), plain(other), 0)
        } == {
            "contents",
            "errors",
            "entries",
            "sums",
        }
        assert list(differences(plain(one), plain(ROOT.TH1D("h", "", 3, 0, 4)), 0))

    def test_arrays(self):
        """Values in their order, and types."""
        one = plain({"x": np.array([1.0, 2.0])})
        assert list(differences(one, plain({"x": np.array([2.0, 1.0])}), 0))
        assert list(differences(one, plain({"x": np.array([1, 2])}), 0))
        assert list(differences(one, plain({"x": np.array([1.0, 2.0])}), 0)) == []
