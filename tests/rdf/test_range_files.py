"""Ctrl-C is heard while ranges write files, in threads of the user's process."""

from __future__ import annotations

import signal
import threading

import pytest

from dask_root_lambda import RDataFrame

from .test_snapshot import RNTUPLE, options, values

UNCOMPRESSED = {"fCompressionLevel": 0, "fCompressionAlgorithm": 1}


@pytest.fixture
def heard():
    """A list of whether SIGINT would be heard, looked at as often as can be while the test runs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    found, over = [], threading.Event()

    def look():
        while not over.wait(0.0005):
            found.append(not is_ignored())

    thread = threading.Thread(target=look)
    thread.start()
    yield found
    over.set()
    thread.join(30)
    signal.signal(signal.SIGINT, before)


def is_ignored():
    with open("/proc/self/status") as status:  # noqa: PTH123  (often)
        (ignored,) = (line.split()[1] for line in status if line.startswith("SigIgn"))
    return bool(int(ignored, 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.parametrize("output", [{}, {"fOutputFormat": RNTUPLE}], ids=["TTree", "RNTuple"])
@pytest.mark.parametrize("place", ["disk", "s3"])
def test_two_threads_write(local, s3, tmp_path, heard, place, output):
    """Many blocks each, at a time; SIGINT is never ignored meanwhile, nor behind it."""
    if place == "s3":
        s3.create_bucket(Bucket="heard")
    url = "s3://heard/a.root" if place == "s3" else str(tmp_path / "a.root")
    frame = RDataFrame(8000, npartitions=2).Define("x", "rdfentry_").Define("v", "ROOT::RVecD(500, x)")
    written = frame.Snapshot("t", url, ["x", "v"], options(**UNCOMPRESSED, **output))
    assert not is_ignored()
    assert len(heard) > 50
    assert all(heard)
    assert values(written) == list(range(8000))
