"""Every benchmark measures what it says, at a size that takes seconds; how fast it was is not tested."""

from __future__ import annotations

import os
import runpy
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

import benchmarks
from benchmarks import (
    booking,
    chaos,
    cold,
    copying,
    datasets,
    dimuon,
    estimating,
    fleet,
    merge,
    page,
    payload,
    rate,
    scaling,
    snapstart,
    soak,
    starting,
)
from benchmarks.__main__ import NAMES
from benchmarks.environments import Environments
from benchmarks.figures import Figure, read, run, table, write

PROJECT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasets are made in a directory of the test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT), prepend=os.pathsep)


def by_name(figures: list[Figure]) -> dict[str, float]:
    return {figure.what: figure.value for figure in figures}


def test_dimuon_compares_with_root() -> None:
    """The ratio to ROOT's Dask backend has the target of the issue, and both got the same numbers."""
    ratio, ours, theirs = dimuon.measure(events=2_000, n_ranges=2, repetitions=1)
    assert ratio.at_most == 0.90
    assert ratio.value == pytest.approx(ours.value / theirs.value)


def test_estimating_compares_with_the_bill() -> None:
    """What it is off by has the target of the issue, and is that of the ratio to the bill."""
    off, cost, wall, within = estimating.measure(events=2_000, turns=1)
    assert off.at_most == 20
    assert off.value == pytest.approx(100 * abs(cost.value - 1))
    assert wall.value > 0
    assert within.value in (0, 1)


# It starts 16 processes.
@pytest.mark.timeout(900)
def test_starting_starts_twice() -> None:
    """Both starts have the target of the issue."""
    targets = [figure.at_most for figure in starting.measure(n_files=8)]
    # Over root:// and s3://, with few columns and with many; the CPU has none.
    assert targets == [10, None, 2, None] * 4


def test_copying_measures_both_sides() -> None:
    """The slower one of them is the measure; memory has limits, of the client and of functions."""
    figures = {figure.what: figure for figure in copying.measure(n_files=2, file_mb=10.0)}
    parts = [figures[f"to {where}, part of the slower side"].at_least for where in ("S3", "the disk")]
    assert parts == [0.85, 0.85]
    for process in ("client", "function"):
        assert figures[f"{process}'s memory, three times the bytes"].at_most == 1.2
        assert figures[f"{process}'s memory"].value > 50


def test_chaos_compares_with_a_run_without_faults() -> None:
    """The histogram is exact though invocations fail, and the limits are those of the issue."""
    exact, invocations, _, walls, _ = chaos.measure(events=2_000, n_ranges=8, seeds=1)
    assert (exact.value, exact.at_least) == (1, 1)
    assert (invocations.at_most, walls.at_most) == (1.6, 2.5)


def test_booking_compares_with_root() -> None:
    """Scripts that book the same are timed, ours until its first invocation."""
    ratio, ours, theirs = booking.measure(cases=((2, 3),), repetitions=1)
    assert ratio.at_most == 1.5
    assert ratio.value == pytest.approx(ours.value / theirs.value)
    assert ratio.what.startswith("2 frames of 3 histograms")


def test_cold_times_one_new_environment() -> None:
    """The first range of a new environment is compared with a plain process."""
    ratio, *seconds = cold.measure(events=1_000, repetitions=1)
    assert ratio.at_most == 1.4
    assert all(figure.value > 0.5 for figure in seconds)  # importing ROOT alone takes as long


def test_snapstart_times_restored_environments() -> None:
    """A graph that the snapshot knows and one that it does not are timed in new environments."""
    unseen, known = snapstart.measure(events=1_000, repetitions=1)
    assert (unseen.at_most, known.at_most) == (1.3, 0.2)


def test_merge_compares_with_root() -> None:
    """The tree's result is ROOT's, and its memory is measured for fewer ranges and a larger fan-in."""
    figures = merge.measure(n_ranges=12, fan_in=3, wide=6, repetitions=1)
    assert figures[0].at_most == 1.2
    assert [figure.unit for figure in figures[-3:]] == ["MB"] * 3
    few, many, _ = figures[-3:]
    growth = figures[-4]
    assert growth.at_most == 2.0
    assert growth.value == pytest.approx(many.value / few.value)


def test_page_compares_with_a_run_that_nobody_watches() -> None:
    """Something opens the page, and is sent states; the targets are those of the issue."""
    ratio, again, _, sent, cpu = page.measure(
        n_ranges=8, seconds=0.1, concurrency=4, turns=1, looked_at_s=1.0
    )
    assert (ratio.at_most, again.at_most, cpu.at_most) == (1.02, None, 2.0)
    assert sent.value > 0


def test_fleet_counts_what_is_in_flight_at_once() -> None:
    """The peak is the server's count, and its target all that were submitted.

    How many were in flight when the first was answered depends on what else the machine does.
    """
    peak, *_ = fleet.measure(invocations=50, seconds=1.0)
    assert (peak.what, peak.at_least) == ("peak of invocations in flight at once", 50)
    assert 1 <= peak.value <= 50
    assert [replace(peak, value=value).met for value in (49, 50)] == [False, True]


def test_rate_counts_invocations() -> None:
    """Executor and Dask have the rates that the issue asks for as targets."""
    figures = rate.measure(invocations=20, concurrency=2, repetitions=1)
    targets = {figure.what: figure.at_least for figure in figures if figure.at_least}
    assert targets == {
        "invocations per second, executor": 500,
        "rate, executor / bare boto3": 0.95,
        "invocations per second, Dask": 350,
        "rate, Dask / bare boto3": 0.60,
    }


def test_scaling_computes_a_frame_on_stubs() -> None:
    """Efficiency and tail have the targets of the issue; a cold start and twelve ranges are its wall time."""
    timing = replace(scaling.AWS, speed=20, slow=())
    figures = scaling.measure(functions=(2,), timing=timing, tail=3)
    _, efficiency, wall, invocations, *_, tail, _ = figures
    assert (efficiency.at_least, tail.at_most) == (0.90, 1.15)
    assert wall.value > (12 * timing.seconds + timing.cold_s) / timing.speed * 0.8
    assert efficiency.value == pytest.approx(12 * timing.seconds / timing.speed / wall.value)
    # The last range of each function is halved, or of one that begins at the same time.
    assert 24 < invocations.value * 24 <= 28


def test_soak_compares_the_first_runs_with_the_last() -> None:
    """Memory, descriptors and threads have limits."""
    growth, _, descriptors, _, threads, _ = soak.measure(runs=3, n_ranges=20, functions=4, seconds=0.01)
    assert (growth.at_most, descriptors.at_most, threads.at_most) == (1.05, 0, 0)


def test_environments_are_refused_beyond_limit_and_ramp() -> None:
    """An account has so many at once, and new ones come at the rate of the ramp; old ones are warm."""
    fleet = Environments(replace(scaling.AWS, limit=30, ramp=20, ramp_s=10.0))
    first = [fleet.take(0.0) for _ in range(21)]
    assert [place is None for place in first] == [False] * 20 + [True]
    assert all(place.init_s for place in first if place)
    fleet.give_back()
    warm = fleet.take(0.0)
    assert warm is not None
    assert warm.init_s is None
    assert [fleet.take(9.0) is None for _ in range(11)] == [False] * 10 + [True]


def test_payload_is_indices() -> None:
    """The graph of many files lies in the store: the payload of a range is indices."""
    figures = by_name(payload.measure(files=1500, events=10))
    assert figures["payload of a range, 1,500 files, largest after the first"] < 1000


def test_figures_survive_a_file(tmp_path: Path) -> None:
    """What is written as JSON is read again, and a missed target shows in the table."""
    figures = [Figure("rate", "invocations", 400.0, "/s", at_least=500.0), Figure("cold", "range", 1.5, "s")]
    write(tmp_path / "figures.json", figures)
    assert read(tmp_path / "figures.json") == figures
    assert table(figures).splitlines()[2].split()[-1] == "NO"


@pytest.mark.parametrize(("value", "missed"), [(400.0, True), (500.0, False)])
def test_a_missed_target_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, missed: bool
) -> None:
    """A benchmark that misses a target exits with 1, after the table and the file."""
    path = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["rate", "--json", str(path)])
    figures = [Figure("rate", "invocations", value, "/s", at_least=500.0), Figure("rate", "CPU", 1.0, "ms")]
    with pytest.raises(SystemExit, match="missed: invocations") if missed else nullcontext():
        run(lambda: figures, "A benchmark.")
    assert read(path) == figures


def test_each_is_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``python -m benchmarks.NAME --help`` tells the target; in one process, which imports ROOT once."""
    for name in NAMES:
        monkeypatch.setattr(sys, "argv", [name, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(Path(benchmarks.__file__).with_name(f"{name}.py")), run_name="__main__")
        assert ended.value.code == 0
        assert "Target" in capsys.readouterr().out


def test_values_tell_histograms_apart() -> None:
    """What benchmarks compare holds every bin."""
    import ROOT

    one, other = (ROOT.TH1D(name, "", 3, 0, 1) for name in ("one", "other"))
    one.Fill(0.1)
    other.Fill(0.9)
    assert datasets.values(one) != datasets.values(other)
