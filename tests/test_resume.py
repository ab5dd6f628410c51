"""A run whose client is killed is taken up again: what was computed is not computed again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

from dask_root_lambda.execution import records
from tests.emulator.clouds import wait_until

RANGES, ENTRIES = 8, 8000

CLIENT = """
import json, sys, warnings
warnings.simplefilter("ignore")
from dask_root_lambda import LambdaCluster, RDataFrame

if __name__ == "__main__":
    gate = sys.argv[1]
    wait = f'while (rdfentry_ >= 7000 && !gSystem->AccessPathName("{gate}")) gSystem->Sleep(20);'
    with LambdaCluster(execution="emulated", concurrency=2, dashboard_address=None) as cluster:
        with cluster.get_client():
            frame = RDataFrame(8000, npartitions=8).Define("x", wait + " return double(rdfentry_);")
            total, histogram = frame.Sum("x"), frame.Histo1D(("h", "", 8, 0, 8000), "x")
            bins = [histogram.GetBinContent(bin_) for bin_ in range(1, 9)]
            print(json.dumps([total.GetValue(), bins, cluster.report().total.invocations]), flush=True)
"""


@contextmanager
def client(gate, state):
    """A client process, ended with all that it has started."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(gate)],
        env={**os.environ, "XDG_STATE_HOME": str(state)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []:
            each.kill()
        process.kill()
        process.communicate(timeout=30)


@pytest.mark.timeout(240)
def test_a_client_that_is_killed_loses_nothing_that_was_computed(tmp_path):
    """The next one invokes what is missing and nothing else, counted; the result is that of the whole."""
    gate = tmp_path / "gate"
    gate.touch()

    def kept():
        files = list((tmp_path / "dask-root-lambda" / "runs").glob("*/*.parts"))
        return sum(len(list(records.contents(file.read_bytes()))) for file in files)

    with client(gate, tmp_path) as first:
        wait_until(lambda: kept() == RANGES - 1, 120.0)
        first.send_signal(signal.SIGKILL)
        first.wait(30)
    gate.unlink()
    with client(gate, tmp_path) as second:
        out, _ = second.communicate(timeout=120)
    total, bins, invocations = json.loads(out)
    assert (total, bins) == (sum(range(ENTRIES)), [1000.0] * RANGES)
    assert invocations == 1
    assert kept() == 0
