"""The start of a script over many files that are far away: until its graph is there, ready to run.

Round trips of 20 ms to an XRootD server, or to an S3, with files of 6 columns and of 1,500. The first start
learns what the files are, the second, in another process, asks whether they have changed (of S3 by listing
the bucket). Importing ROOT is
not in it. Targets: at most 10 s, then 2 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ROOT

from benchmarks.datasets import TREE, book, dimuon_file
from benchmarks.figures import Figure, run
from benchmarks.reading import serving
from tests import xrootd, xrootd_proxy

_BUCKET = "physics"
_WIDE_COLUMNS = 1_500
_EVENTS = 100_000
_ROUND_TRIP_S = 0.02
_LONG_AGO_S = 1_500_000_000
_TIMEOUT_S = 300.0


def measure(n_files: int = 2_000) -> list[Figure]:
    """Start twice over each, as a user who has never seen the files."""
    source = dimuon_file(_EVENTS)
    figures = []
    with tempfile.TemporaryDirectory() as made:
        wide = Path(made) / "wide.root"
        _make_wide(source, wide)
        for file, columns in ((source, "6 columns"), (wide, f"{_WIDE_COLUMNS:,} columns")):
            figures += _over_root(file, columns, n_files) + _over_s3(file, columns, n_files)
    return figures


def _over_root(file: Path, columns: str, n_files: int) -> list[Figure]:
    with xrootd.serving() as (data, near), xrootd_proxy.before(near, delay_s=_ROUND_TRIP_S) as far:
        _fill(data, file, n_files)
        return _started(f"root://, {columns}", [f"{far.url}/{number}.root" for number in range(n_files)], {})


def _over_s3(file: Path, columns: str, n_files: int) -> list[Figure]:
    with (
        tempfile.TemporaryDirectory() as bucket,
        serving(Path(bucket), "--round-trip-ms", f"{1e3 * _ROUND_TRIP_S}") as endpoint,
    ):
        _fill(Path(bucket), file, n_files)
        variables = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": endpoint,
        }
        names = [f"s3://{_BUCKET}/{number}.root" for number in range(n_files)]
        return _started(f"s3://, {columns}", names, variables)


def _started(what: str, names: list[str], variables: dict[str, str]) -> list[Figure]:
    with tempfile.TemporaryDirectory() as home:
        (first_s, first_cpu_s), (second_s, second_cpu_s) = (_start(names, home, variables) for _ in range(2))
    what = f"{len(names):,} files, {what}"
    return [
        Figure("starting", f"{what}: first start", first_s, "s", at_most=10),
        Figure("starting", f"{what}: first start, CPU", first_cpu_s, "s"),
        Figure("starting", f"{what}: second start", second_s, "s", at_most=2),
        Figure("starting", f"{what}: second start, CPU", second_cpu_s, "s"),
    ]


def _make_wide(source: Path, path: Path) -> None:
    """Write events of the same columns, and as many others that nobody reads."""
    frame = ROOT.RDataFrame(TREE, str(source)).Range(1_000)
    for number in range(_WIDE_COLUMNS - frame.GetColumnNames().size()):
        frame = frame.Define(f"other{number}", "1.f")
    frame.Snapshot(TREE, str(path))


def _fill(directory: Path, source: Path, n_files: int) -> None:
    first = directory / "0.root"
    first.write_bytes(source.read_bytes())
    first.chmod(0o644)
    os.utime(first, (_LONG_AGO_S, _LONG_AGO_S))
    for number in range(1, n_files):
        os.link(first, directory / f"{number}.root")


def _start(names: list[str], home: str, more: dict[str, str]) -> tuple[float, float]:
    """Start in a process of its own; return seconds of wall time and of CPU."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.starting", "--start"]
    done = subprocess.run(
        command, env={**os.environ, "XDG_STATE_HOME": home, **more}, input="\n".join(names),
        timeout=_TIMEOUT_S, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    wall_s, cpu_s = json.loads(done.stdout.splitlines()[-1])
    return wall_s, cpu_s


def start(names: list[str]) -> tuple[float, float]:
    """Make a frame over files, and the graph of a histogram."""
    from dask_root_lambda import RDataFrame

    wall_s, cpu_s = time.monotonic(), time.process_time()
    histogram, _ = book(RDataFrame(TREE, names, npartitions=len(names)))
    assert histogram.dask
    return time.monotonic() - wall_s, time.process_time() - cpu_s


if __name__ == "__main__":
    if sys.argv[1:2] == ["--start"]:
        print(json.dumps(start(sys.stdin.read().splitlines())))
    else:
        run(measure, __doc__)
