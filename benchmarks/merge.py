"""A thousand partial results merged, against the same with ROOT in one process.

Targets: at most 1.2 of the time that ROOT takes to deserialise and merge the same bytes, one after the
other; and memory that grows with the fan-in, not with the number of ranges: of four times as many, at most
twice. (It is not quite the same, as partial results may come faster than they are merged.)

The partial results are ten histograms of 10,000 bins each, filled from a falling spectrum, as the blobs
that ranges answer with. On a `LambdaCluster`, tasks in the place of the ranges read them from files, and
the tree that a run has merges them. For the time, they are read before the clock starts, and on ROOT's side
from the page cache; for the memory, they come one by one as from ranges. Each measurement is a process of
its own, whose memory is the peak of its resident set above that before the first partial result. Processes
take turns; times are medians, the ratio is the median of those of the turns. Noise: two merges run at a
time, so a busy second core costs up to what it gained.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, run
from benchmarks.merging import Outcome
from dask_root_lambda import RDataFrame
from dask_root_lambda.rdf import packing

_DEADLINE_S = 300.0
_ENTRIES_PER_RANGE = 20_000
_BINS = 10_000
_HISTOGRAMS = 10


@dataclass(frozen=True)
class _Case:
    """What one process does."""

    n_ranges: int
    fan_in: int | None
    """None for ROOT in one process."""
    held: bool = False
    """Whether the cluster has all partial results before the clock starts; else they come as ranges do."""
    as_shipped: bool = False
    """Whether ROOT is left as it is."""


def measure(*, n_ranges: int = 1000, fan_in: int = 8, wide: int = 128, repetitions: int = 3) -> list[Figure]:
    """Measure the tree against ROOT, and the tree's memory for fewer ranges and for a wider tree.

    Parameters
    ----------
    n_ranges
        Partial results.
    fan_in, wide
        The tree's fan-in, and a larger one to compare the memory with.
    repetitions
        Of which the median counts.
    """
    cases = {
        "plain": _Case(n_ranges, None, as_shipped=True),
        "faster": _Case(n_ranges, None),
        "tree": _Case(n_ranges, fan_in, held=True),
        "many": _Case(n_ranges, fan_in),
        "few": _Case(n_ranges // 4, fan_in),
        "wide": _Case(n_ranges, wide),
    }
    with tempfile.TemporaryDirectory() as directory:
        size_kb = _write(Path(directory), n_ranges) / 1e3
        turns = [
            {name: _in_a_process(directory, case) for name, case in cases.items()} for _ in range(repetitions)
        ]
    assert all(turn["tree"].integral == turn["plain"].integral for turn in turns)
    size = Figure("merge", "a partial result, compressed", size_kb, "kB")
    return [*_times(turns, cases["tree"]), size, *_memories(turns, cases)]


def _times(turns: list[dict[str, Outcome]], tree: _Case) -> list[Figure]:
    ratios = {
        name: statistics.median(turn["tree"].wall_s / turn[name].wall_s for turn in turns)
        for name in ("plain", "faster")
    }
    wall_s = {name: statistics.median(turn[name].wall_s for turn in turns) for name in ("tree", "plain")}
    what = f"{tree.n_ranges:,} partial results"
    compared = f"{what}: tree of fan-in {tree.fan_in} / ROOT in one process"
    return [
        Figure("merge", compared, ratios["plain"], at_most=1.2),
        Figure("merge", "the same / ROOT with its namespaces looked up once, as we do", ratios["faster"]),
        Figure("merge", f"{what}: tree", wall_s["tree"], "s"),
        Figure("merge", f"{what}: ROOT", wall_s["plain"], "s"),
    ]


def _memories(turns: list[dict[str, Outcome]], cases: dict[str, _Case]) -> list[Figure]:
    few, many = (cases[name] for name in ("few", "many"))
    growth = statistics.median(turn["many"].memory_mb / turn["few"].memory_mb for turn in turns)
    what = f"memory of the tree, {many.n_ranges:,} ranges / {few.n_ranges:,}, fan-in {few.fan_in}"
    figures = [Figure("merge", what, growth, at_most=2.0)]
    for name in ("few", "many", "wide"):
        memory_mb = statistics.median(turn[name].memory_mb for turn in turns)
        what = f"memory of the tree, {cases[name].n_ranges:,} ranges, fan-in {cases[name].fan_in}"
        figures.append(Figure("merge", what, memory_mb, "MB"))
    return figures


def _write(directory: Path, n_ranges: int) -> float:
    """Write the blob of each range's partial result; return their mean size in bytes."""
    frame = RDataFrame(n_ranges * _ENTRIES_PER_RANGE, npartitions=n_ranges)
    booked = []
    for index in range(_HISTOGRAMS):
        # An exponential distribution, the same in every process: multiples of the golden ratio fill evenly.
        uniform = f"std::fmod((rdfentry_ + 1) * 0.6180339887 + {index} * 0.1, 1.)"
        column = frame.Define(f"x{index}", f"-30 * std::log(1 - {uniform})")
        booked.append(column.Histo1D((f"h{index}", "", _BINS, 0, 300), f"x{index}"))
    mapper = packing.pack(frame._headnode, [result.node for result in booked], n_ranges).mapper
    return statistics.mean(
        (directory / str(step.index)).write_bytes(step(mapper).fetch(mapper.space.key))
        for step in mapper.ranges
    )


def _in_a_process(directory: str, case: _Case) -> Outcome:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.merging", directory, str(case.n_ranges)]
    command += ["--fan-in", str(case.fan_in)] if case.fan_in else []
    command += ["--hold"] * case.held + ["--as-shipped"] * case.as_shipped
    done = subprocess.run(command, check=True, timeout=_DEADLINE_S, stdout=subprocess.PIPE, text=True)
    return Outcome(**json.loads(done.stdout))


if __name__ == "__main__":
    run(measure, __doc__)
