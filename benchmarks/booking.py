"""Booking many histograms with systematic variations: how long until the first invocation.

Target: from the script's start to the first invocation, at most 1.5 of the time in which a script of ROOT
alone has booked the same: 2,000 histograms on one frame, and 20 on each of 200 frames.

Both are scripts in processes of their own, which import what they need and book the same, in turns. The
function is behind a stub server, which tells when the first invocation came in; the clock is the machine's.
ROOT compiles when its event loop runs, which is not timed on either side. Noise: what else runs slows both;
the ratio of one turn moves by a tenth.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

import ROOT

from benchmarks.figures import Figure, run
from benchmarks.stub import serving

_DEADLINE_S = 300.0
_POLL_S = 0.02


def measure(
    *, cases: tuple[tuple[int, int], ...] = ((1, 2000), (200, 20)), repetitions: int = 5
) -> list[Figure]:
    """Measure each case.

    Parameters
    ----------
    cases
        Frames, and histograms of each.
    repetitions
        Of which the median counts.
    """
    figures = []
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/events.root"
        ROOT.RDataFrame(1000).Define("x", "double(rdfentry_)").Snapshot("Events", path)
        for frames, histograms in cases:
            turns = [
                (_ours(path, frames, histograms), _roots(path, frames, histograms))
                for _ in range(repetitions)
            ]
            what = f"{frames:,} frame{'s' if frames > 1 else ''} of {histograms:,} histograms"
            ratio = statistics.median(ours / roots for ours, roots in turns)
            figures += [
                Figure("booking", f"{what}: to the first invocation / ROOT's booking", ratio, at_most=1.5),
                Figure("booking", f"{what}: ours", statistics.median(ours for ours, _ in turns), "s"),
                Figure("booking", f"{what}: ROOT's", statistics.median(roots for _, roots in turns), "s"),
            ]
    return figures


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", "benchmarks.script", *map(str, arguments)]


def _ours(path: str, frames: int, histograms: int) -> float:
    """Return the seconds from a script's start to its first invocation."""
    with serving() as server, tempfile.TemporaryFile() as log:
        began_s = time.monotonic()
        script = subprocess.Popen(_command(path, frames, histograms, server.endpoint), stderr=log)
        try:
            while not (seen := server.statistics()).invocations:
                if script.poll() is not None or time.monotonic() > began_s + _DEADLINE_S:
                    log.seek(0)
                    raise RuntimeError(f"the script invoked nothing: {log.read().decode()[-2000:]}")
                time.sleep(_POLL_S)
        finally:
            script.kill()
            script.wait()
    return seen.first_s - began_s


def _roots(path: str, frames: int, histograms: int) -> float:
    """Return the seconds from a script's start until it has booked."""
    began_s = time.monotonic()
    script = subprocess.Popen(_command(path, frames, histograms), stdout=subprocess.PIPE, text=True)
    try:
        assert script.stdout is not None
        assert int(script.stdout.readline()) == frames * histograms
        return time.monotonic() - began_s
    finally:
        script.kill()
        script.communicate()


if __name__ == "__main__":
    run(measure, __doc__)
