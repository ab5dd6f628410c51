"""A process that ends while ROOT is at work in its threads: no crash, its own status, and nothing said."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests import scripts

_SCRIPT = """
import sys, time
from pathlib import Path
import ROOT
from dask_root_lambda import LambdaCluster, RDataFrame
sign, how, sleep_ms = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
cluster = LambdaCluster(execution="local", concurrency=2, dashboard_address=None, progress=False)
client = cluster.get_client()
ROOT.RDF.Distributed.DistributeCppCode(
    '#include <cstdio>\\nint slow() { fclose(fopen("%s", "w")); gSystem->Sleep(%d); return 1; }'
    % (sign, sleep_ms)
)
future = client.compute(RDataFrame(1000, npartitions=2).Define("y", "slow()").Sum("y"))
while not sign.exists():
    time.sleep(0.01)
print("begun", flush=True)
if how == "exit":
    sys.exit(3)
if how == "words":
    sys.exit("no muons")
if how == "interrupted":
    raise KeyboardInterrupt
"""
LAST_WORDS = {
    "words": ["no muons"],
    "interrupted": ["KeyboardInterrupt"],
}
LIMIT_S = 3.0
"""Seconds until a process has ended."""


def run(tmp_path, how, sleep_ms):
    command = [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(tmp_path / "sign"), how, str(sleep_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    began_s = time.monotonic()
    _, said = process.communicate(timeout=60)
    return process.returncode, said, time.monotonic() - began_s


@pytest.mark.parametrize(("how", "status"), [("return", 0), ("exit", 3)])
def test_ranges_in_flight_are_ended_first(tmp_path, how, status):
    """A cluster that was left open is closed before ROOT goes, within 3 s, with not a word of it."""
    found, said, took_s = run(tmp_path, how, 200)
    assert (found, said) == (status, "")
    assert took_s < scripts.limit_s(LIMIT_S)


@pytest.mark.parametrize(("how", "status"), [("exit", 3), ("words", 1), ("interrupted", -signal.SIGINT)])
def test_a_range_that_does_not_stop_is_left(tmp_path, how, status):
    """One that is in the user's code for long ends with the process, within 3 s, and not a word of it; the
    status is that of the script."""
    found, said, took_s = run(tmp_path, how, 60_000)
    assert found == status
    assert said.splitlines()[-1:] == LAST_WORDS.get(how, [])
    assert took_s < scripts.limit_s(LIMIT_S)
