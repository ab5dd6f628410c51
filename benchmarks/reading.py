"""Reading over HTTP as from S3, beside the same files on the disk: one event loop, one thread, its CPU.

``75 MB/s`` is the link of a function, ``20 ms`` the round trip to S3 from another region. Targets: at least
85 % of the smaller of the link's speed and that of local files; without a limit at most 1.15 times the time
of local files; with round trips at most 1.3 times the time without. Of 3 columns of 86, as of NanoAOD, at
most 1.1 times the bytes that local reading counts. The server takes CPU of this machine.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ROOT

from benchmarks.datasets import TREE, book, dimuon_file
from benchmarks.figures import Figure, run
from lambda_runtime import traffic
from lambda_runtime.remote import objects

_EVENTS = 2_000_000
_WIDE_EVENTS = 400_000
_COPIES = 4
_COLUMNS = 86
_LINK_MB_PER_S = 75.0
_ROUND_TRIP_MS = 20.0


@dataclass(frozen=True)
class Turn:
    """What one event loop took."""

    wall_s: float
    cpu_s: float
    asked_mb: float
    fetched_mb: float


def measure() -> list[Figure]:
    """Read the same files in four ways."""
    path = dimuon_file(_EVENTS)
    files = [str(path)] * _COPIES
    read(files[:1])
    local = read(files)
    free = over_http(path)
    limited = over_http(path, "--mb-per-s", str(_LINK_MB_PER_S))
    distant = over_http(path, "--round-trip-ms", str(_ROUND_TRIP_MS))
    best_mb_per_s = min(_LINK_MB_PER_S, local.asked_mb / local.wall_s)
    share = limited.asked_mb / limited.wall_s / best_mb_per_s
    return [
        Figure("reading", "local files", local.asked_mb / local.wall_s, "MB/s"),
        Figure("reading", "local files, CPU", local.cpu_s, "s"),
        Figure("reading", "http without a limit, wall / local", free.wall_s / local.wall_s, at_most=1.15),
        Figure("reading", "http without a limit, CPU / local", free.cpu_s / local.cpu_s),
        Figure("reading", f"{_LINK_MB_PER_S:.0f} MB/s, part of the best possible", share, at_least=0.85),
        Figure("reading", "20 ms round trips, wall / without", distant.wall_s / free.wall_s, at_most=1.3),
        Figure("reading", "bytes fetched / asked for", free.fetched_mb / free.asked_mb, at_most=1.1),
        Figure("reading", f"3 of {_COLUMNS} columns, bytes fetched / local", _of_few_columns(), at_most=1.1),
    ]


def _of_few_columns() -> float:
    """Return the bytes that few columns of many take over HTTP, over those that local reading counts."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "wide.root"
        frame = ROOT.RDataFrame(_WIDE_EVENTS)
        for number in range(_COLUMNS // 2):
            frame = frame.Define(f"flat{number}", "float(gRandom->Gaus())")
            frame = frame.Define(f"array{number}", "ROOT::RVecF(rdfentry_ % 4, float(gRandom->Gaus()))")
        frame.Snapshot("Events", str(path))
        local = _asked_mb(str(path))
        with serving(path.parent) as url:
            before = _fetched()
            _asked_mb(f"{url}/{path.name}")
            return (_fetched() - before) / 1e6 / local


def _asked_mb(file: str) -> float:
    """Read three columns of the wide file; return what ROOT counts, MB."""
    objects.prepare()
    asked = ROOT.TFile.GetFileBytesRead()
    frame = ROOT.RDataFrame("Events", file).Filter("array7.size() > 1")
    flat, array = frame.Histo1D("flat3"), frame.Histo1D("array40")
    assert flat.GetEntries() <= array.GetEntries()
    return float(ROOT.TFile.GetFileBytesRead() - asked) / 1e6


def over_http(path: Path, *options: str) -> Turn:
    """Read a file by several names from a server; the first is warm: compiled, and connected."""
    with serving(path.parent, *options) as url:
        names = [f"{url}/{copy}/{path.name}" for copy in range(_COPIES + 1)]
        read(names[:1])
        return read(names[1:])


def read(files: list[str]) -> Turn:
    """Run the dimuon graph over files."""
    objects.prepare()
    asked, fetched = ROOT.TFile.GetFileBytesRead(), _fetched()
    wall_s, cpu_s = time.monotonic(), time.process_time()
    histogram, _ = book(ROOT.RDataFrame(TREE, files))
    histogram.GetValue()
    return Turn(
        wall_s=time.monotonic() - wall_s,
        cpu_s=time.process_time() - cpu_s,
        asked_mb=(ROOT.TFile.GetFileBytesRead() - asked) / 1e6,
        fetched_mb=(_fetched() - fetched) / 1e6,
    )


def _fetched() -> int:
    return sum(each.bytes_read for each in traffic.own())


@contextlib.contextmanager
def serving(directory: Path, *options: str) -> Iterator[str]:
    """Serve a directory in a process of its own; yield its URL."""
    command = [sys.executable, "-m", "benchmarks.slow_web", str(directory), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


if __name__ == "__main__":
    run(measure, __doc__)
