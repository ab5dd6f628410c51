"""The start of a script over many files that are far away: until its graph is there, ready to run.

Round trips of 20 ms to an XRootD server. The first start learns what the files are, the second, in another
process, asks whether they have changed. Importing ROOT is not in it. Targets: at most 10 s, then 2 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.datasets import TREE, book, dimuon_file
from benchmarks.figures import Figure, run
from tests import xrootd, xrootd_proxy

_EVENTS = 100_000
_ROUND_TRIP_S = 0.02
_LONG_AGO_S = 1_500_000_000
_TIMEOUT_S = 300.0


def measure(n_files: int = 2_000) -> list[Figure]:
    """Start twice, as a user who has never seen the files."""
    source = dimuon_file(_EVENTS)
    with (
        xrootd.serving() as (data, near),
        xrootd_proxy.before(near, delay_s=_ROUND_TRIP_S) as far,
        tempfile.TemporaryDirectory() as home,
    ):
        _fill(data, source, n_files)
        turns = [_start(far.url, n_files, home) for _ in range(2)]
    (first_s, first_cpu_s), (second_s, second_cpu_s) = turns
    return [
        Figure("starting", f"{n_files:,} files over root://, first start", first_s, "s", at_most=10),
        Figure("starting", "first start, CPU", first_cpu_s, "s"),
        Figure("starting", f"{n_files:,} files over root://, second start", second_s, "s", at_most=2),
        Figure("starting", "second start, CPU", second_cpu_s, "s"),
    ]


def _fill(directory: Path, source: Path, n_files: int) -> None:
    first = directory / "0.root"
    first.write_bytes(source.read_bytes())
    first.chmod(0o644)
    os.utime(first, (_LONG_AGO_S, _LONG_AGO_S))
    for number in range(1, n_files):
        os.link(first, directory / f"{number}.root")


def _start(url: str, n_files: int, home: str) -> tuple[float, float]:
    """Start in a process of its own; return seconds of wall time and of CPU."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.starting", "--start", url, str(n_files)]
    variables = {**os.environ, "XDG_STATE_HOME": home}
    done = subprocess.run(
        command, env=variables, timeout=_TIMEOUT_S, check=True, capture_output=True, text=True
    )
    wall_s, cpu_s = json.loads(done.stdout.splitlines()[-1])
    return wall_s, cpu_s


def start(url: str, n_files: int) -> tuple[float, float]:
    """Make a frame over files, and the graph of a histogram."""
    from dask_root_lambda import RDataFrame

    wall_s, cpu_s = time.monotonic(), time.process_time()
    frame = RDataFrame(TREE, [f"{url}/{number}.root" for number in range(n_files)], npartitions=n_files)
    histogram, _ = book(frame)
    assert histogram.dask
    return time.monotonic() - wall_s, time.process_time() - cpu_s


if __name__ == "__main__":
    if sys.argv[1:2] == ["--start"]:
        print(json.dumps(start(sys.argv[2], int(sys.argv[3]))))
    else:
        run(measure, __doc__)
