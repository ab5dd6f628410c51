"""Looking at many files on an XRootD server."""

from __future__ import annotations

import os
import shutil
import socket
import time
from pathlib import Path

import pytest
import ROOT

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.rdf import probes, whole
from dask_root_lambda.rdf import xrootd as xrootd_looks
from lambda_runtime import storage
from tests import xrootd, xrootd_proxy
from tests.conftest import write_events

N_FILES = 24
LONG_AGO_S = 1_000_000_000


@pytest.fixture(scope="module")
def served():
    """A directory that a server serves, and the server."""
    with xrootd.serving() as served:
        yield served


@pytest.fixture
def many(served, tmp_path, monkeypatch):
    """Names of files on the server that this user has not seen, which were written long ago."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(whole, "_counted", {})
    data, _ = served
    first = Path(write_events(data / "events0.root"))
    for index in range(N_FILES):
        path = data / f"events{index}.root"
        if path != first:
            shutil.copy(first, path)
        path.chmod(0o644)
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return [path.name for path in sorted(data.glob("events*.root"))]


def test_files_are_looked_at_side_by_side(served, many):
    """The look at many files takes a few round trips, not a few for each; it says what a look at one says."""
    with xrootd_proxy.before(served[1], delay_s=0.2) as far:
        urls = [f"{far.url}/{name}" for name in many]
        probes.identify(urls[:5])  # connected, and compiled
        began_s = time.monotonic()
        found = probes.identify(urls)
        assert time.monotonic() - began_s < 0.2 * N_FILES
    assert found == [storage.identify(f"{served[1]}/{name}") for name in many]


def test_a_second_start_asks_for_changes_alone(served, many):
    """What was learned of files that are as they were is not asked for again: one request for each."""
    with xrootd_proxy.before(served[1]) as far:
        urls = [f"{far.url}/{name}" for name in many]
        first = probes.identify(urls)
        assert far.requests()["open"] == N_FILES
        assert probes.identify(urls) == first
        asked = far.requests()
        assert (asked["stat"], asked["open"]) == (N_FILES, 1)  # the first is looked at as one alone is


def test_a_file_that_changed_is_looked_at_again(served, many):
    """A file that was replaced, with the same length, is opened again, and no other."""
    data, _ = served
    with xrootd_proxy.before(served[1]) as far:
        urls = [f"{far.url}/{name}" for name in many]
        first = probes.identify(urls)
        other = Path(write_events(data / "other.root", value="7 + int(rdfentry_)"))
        length = other.stat().st_size
        other.chmod(0o644)
        os.utime(other, (LONG_AGO_S + 1, LONG_AGO_S + 1))
        other.replace(data / many[3])
        far.requests()
        found = probes.identify(urls)
        assert far.requests()["open"] == 2
        assert [index for index in range(N_FILES) if found[index] != first[index]] == [3]
        assert found[3].size == length


def test_a_file_that_was_just_written_is_not_remembered(served, many):
    """Its time of change, in seconds, does not tell it from what may be written in the same second."""
    data, _ = served
    os.utime(data / many[1])
    with xrootd_proxy.before(served[1]) as far:
        urls = [f"{far.url}/{name}" for name in many]
        probes.identify(urls)
        far.requests()
        probes.identify(urls)
        assert far.requests()["open"] == 2


def test_entries_are_counted_once(served, many, local, monkeypatch):
    """Entries of trees, where a graph names their numbers, are counted at the first start only."""
    with xrootd_proxy.before(served[1]) as far:
        urls = [f"{far.url}/{name}" for name in many]
        opened = []
        for _ in range(2):
            monkeypatch.setattr(whole, "_counted", {})
            far.requests()
            total = RDataFrame("Events", urls, npartitions=2).Define("n", "int(rdfentry_)").Sum("n")
            _ = total.dask
            opened.append(far.requests()["open"])
            assert total.compute() == sum(range(1000 * N_FILES))
    assert opened[0] - opened[1] >= 2 * (N_FILES - 1)


def test_entries_of_rntuples_are_counted_side_by_side(served, tmp_path, local, monkeypatch):
    """So are those of RNTuples, with each file's own number."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(whole, "_counted", {})
    data, _ = served
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
    for index in range(12):
        path = data / f"ntuple{index}.root"
        ROOT.RDataFrame(10 + index).Define("x", "int(rdfentry_)").Snapshot("N", str(path), ["x"], options)
        path.chmod(0o644)
    with xrootd_proxy.before(served[1], delay_s=0.1) as far:
        urls = [f"{far.url}/ntuple{index}.root" for index in range(12)]
        found = xrootd_looks.entries(urls, ["N"] * 12, rntuples=True)
        assert found == [10 + index for index in range(12)]
        total = RDataFrame("N", urls, npartitions=3).Define("n", "int(rdfentry_)").Sum("n")
        assert total.compute() == sum(range(sum(range(10, 22))))
        (problem,) = xrootd_looks.entries(urls[:1], ["M"], rntuples=True)
        assert isinstance(problem, xrootd_looks.Problem)


def test_a_missing_file_among_many_is_named(served, many):
    """An error of one of many names it, with the server's words."""
    urls = [f"{served[1]}/{name}" for name in many]
    with pytest.raises(InputError, match=r"cannot open .*/nowhere\.root.*[Nn]o such file"):
        probes.identify([*urls, f"{served[1]}/nowhere.root"])


def test_files_are_looked_at_while_the_frame_is_made(served, many, local, monkeypatch):
    """What was wrong with one is told where the results are wanted, and looked at again then."""
    data, url = served
    looked = []

    def noting(look):
        def noted(urls):
            looked.extend([[url.rpartition("/")[2] for url in urls]] if urls else [])
            return look(urls)

        return noted

    for name in ("_look", "_look_far"):
        monkeypatch.setattr(probes, name, noting(getattr(probes, name)))
    late = data / "late.root"
    frame = RDataFrame("Events", [f"{url}/{name}" for name in (*many, late.name)], npartitions=2)
    with pytest.raises(InputError, match=r"cannot open .*/late\.root.*[Nn]o such file"):
        frame.Count().compute()
    assert looked == [[many[0]], [*many[1:], late.name]]
    shutil.copy(data / many[0], late)
    late.chmod(0o644)
    assert frame.Count().compute() == 1000 * (N_FILES + 1)
    assert looked[2:] == [[late.name]]
    late.unlink()


def test_bad_files_among_many_do_not_hide_the_others(served, many):
    """A missing and a truncated file have their errors in their places, and all others are identified."""
    data, url = served
    short = data / "short.root"
    short.write_bytes((data / many[0]).read_bytes()[:2000])
    short.chmod(0o644)
    names = ["missing.root", *many[:3], "nowhere.root", *many[3:9], short.name, *many[9:]]
    found = dict(zip(names, probes.look([f"{url}/{name}" for name in names]), strict=True))
    assert {name: found[name] for name in many} == {name: storage.identify(f"{url}/{name}") for name in many}
    assert all(isinstance(found[name], InputError) for name in ("missing.root", "nowhere.root"))
    assert "truncated" in str(found["short.root"])
    short.unlink()


def test_a_server_that_does_not_answer_is_waited_for_once(served, many):
    """However many files it is said to have, and those of another server are identified."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    dead = [f"root://127.0.0.2:{port}//{index}.root" for index in range(50)]
    began_s = time.monotonic()
    found = probes.look([*dead, *(f"{served[1]}/{name}" for name in many)])
    assert time.monotonic() - began_s < 60
    assert all(isinstance(each, InputError) for each in found[: len(dead)])
    assert not any(isinstance(each, BaseException) for each in found[len(dead) :])


def test_a_missing_tree_among_many_is_named(served, many, local):
    """So does one of a file that has not the tree."""
    data, url = served
    bad = Path(write_events(data / "other_tree.root", tree="Others"))
    bad.chmod(0o644)
    urls = [f"{url}/{name}" for name in (*many, bad.name)]
    frame = RDataFrame("Events", urls, npartitions=2).Define("n", "int(rdfentry_)")
    with pytest.raises(InputError, match=r"cannot read the tree Events of .*other_tree\.root"):
        frame.Sum("n").compute()
