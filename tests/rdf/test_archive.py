"""Results that are kept for later sessions, where the user asks for it; see docs/data.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import dask
import pytest
import ROOT

from dask_root_lambda import RDataFrame, partial_results, state_home

from ..conftest import EVENTS

SESSION = """
import json, sys, warnings
warnings.simplefilter("ignore")
import dask
from dask_root_lambda import LambdaCluster, RDataFrame

if __name__ == "__main__":
    file, cut = sys.argv[1:]
    dask.config.set({"dask-root-lambda.results.keep-days": 7})
    with LambdaCluster(execution="local", dashboard_address=None) as cluster, cluster.get_client():
        frame = RDataFrame("Events", file, npartitions=4).Filter(cut)
        total, histogram = frame.Sum("x"), frame.Histo1D(("h", "", 8, 0, 1000), "x")
        (collected,) = dask.compute(total)
        bins = [histogram.GetBinContent(bin_) for bin_ in range(10)]
        print(json.dumps([collected, bins, cluster.report().total.done]))
"""


def session(state, file, cut):
    """Compute in a process of its own; return the values, and how many tasks ran."""
    done = subprocess.run(
        [sys.executable, "-c", SESSION, file, cut],
        env={**os.environ, "XDG_STATE_HOME": str(state)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    *values, n_done = json.loads(done.stdout)
    return values, n_done


@pytest.mark.timeout(240)
def test_another_session_runs_nothing_again(tmp_path, events_file):
    """What was computed is there, to the last count; an edited cut and another file are computed."""
    here = ROOT.RDataFrame("Events", events_file).Filter("x > 100")
    total, histogram = here.Sum("x"), here.Histo1D(("h", "", 8, 0, 1000), "x")
    expected = [total.GetValue(), [histogram.GetBinContent(bin_) for bin_ in range(10)]]
    first, again = (session(tmp_path, events_file, "x > 100") for _ in range(2))
    edited = session(tmp_path, events_file, "x > 200")
    ROOT.RDataFrame(EVENTS).Define("x", "500. + rdfentry_ % 2").Snapshot("Events", str(tmp_path / "f.root"))
    other = session(tmp_path, str(tmp_path / "f.root"), "x > 100")
    assert first == (expected, 4)
    assert again == (expected, 0)
    # The other file has a single cluster.
    assert (edited[1], other[1]) == (4, 1)
    assert other[0][0] == EVENTS * 500.5


def count(local, file, days=1):
    """Count in a frame of its own; return the number, and how many ranges were run for it."""
    before = local.report().total.done
    with dask.config.set({"dask-root-lambda.results.keep-days": days}), local.get_client():
        n = RDataFrame("Events", file, npartitions=2).Count().GetValue()
    return n, local.report().total.done - before


def kept():
    return list((state_home.home() / "results").glob("*"))


@pytest.fixture(autouse=True)
def _own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_nothing_is_kept_unless_asked_for(local, events_file):
    """By default each computation runs, and leaves nothing."""
    assert [count(local, events_file, days=0) for _ in range(2)] == [(EVENTS, 2)] * 2
    assert not kept()


def test_what_is_old_is_computed_again(local, events_file):
    """Results are used for so many days, and go then."""
    assert [count(local, events_file) for _ in range(2)] == [(EVENTS, 2), (EVENTS, 0)]
    (path,) = kept()
    two_days_ago = time.time() - 2 * 86_400
    os.utime(path, (two_days_ago, two_days_ago))
    assert count(local, events_file, days=3) == (EVENTS, 0)
    assert count(local, events_file) == (EVENTS, 2)
    assert [path.stat().st_mtime > two_days_ago for path in kept()] == [True]


def test_what_is_damaged_is_computed_again(local, events_file, caplog):
    """A changed byte is no result, and nothing that is unpickled."""
    count(local, events_file)
    (path,) = kept()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert count(local, events_file) == (EVENTS, 2)
    assert "computed again" in caplog.text
    assert path.stat().st_mode & 0o077 == 0


def test_first_entries_and_files_are_not_kept(local, events_file, tmp_path):
    """A Snapshot writes each time it is asked to, and a part of the entries stands for nothing else."""
    with dask.config.set({"dask-root-lambda.results.keep-days": 1}), local.get_client():
        for turn in range(2):
            frame = RDataFrame("Events", events_file, npartitions=2)
            assert frame.Range(10).Count().GetValue() == 10
            frame.Snapshot("Events", str(tmp_path / f"{turn}.root"))
    assert len(list(tmp_path.glob("?*.root"))) >= 2
    assert not kept()


def test_partial_results_end_at_once(local, events_file):
    """Who iterates gets the whole, once."""
    count(local, events_file)
    with dask.config.set({"dask-root-lambda.results.keep-days": 1}), local.get_client():
        n = RDataFrame("Events", events_file, npartitions=2).Count()
        assert [(part.values, part.share) for part in partial_results(n)] == [((EVENTS,), 1.0)]
