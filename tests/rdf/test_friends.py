"""Data sets with friends: ranges open what they read, and the numbers are those of local ROOT."""

from __future__ import annotations

from pathlib import Path

import dask
import pytest
import ROOT

from dask_root_lambda import RDataFrame
from lambda_runtime.ranges import Alignment
from tests import xrootd, xrootd_proxy
from tests.conftest import write_events

OWN = (100, 300, 200, 150, 50)
DIVISIONS = {
    "file by file": OWN,
    "in one file": (800,),
    "by others": (100, 350, 100, 200, 50),
    "by more": (50, 50, 10, 290, 200, 150, 25, 25),
}


def _write(directory: Path, name: str, division: tuple[int, ...]) -> list[str]:
    """Write a tree, in several files, whose ``NAME`` is known by the number of the entry."""
    directory.mkdir(exist_ok=True)
    urls, before = [], 0
    options = ROOT.RDF.RSnapshotOptions()
    options.fAutoFlush = 50
    for index, entries in enumerate(division):
        path = directory / f"{name}{index}.root"
        column = f"int(rdfentry_) + {before}"
        ROOT.RDataFrame(entries).Define(name, column).Snapshot("Events", str(path), [name], options)
        urls.append(str(path))
        before += entries
    return urls


def _chain(own: list[str], *friends: list[str]) -> ROOT.TChain:
    chain = ROOT.TChain("Events")
    for url in own:
        chain.Add(url)
    for number, urls in enumerate(friends):
        friend = ROOT.TChain("Events")
        for url in urls:
            friend.Add(url)
        chain.AddFriend(friend, f"friend{number}")
        chain.friends = [*getattr(chain, "friends", []), friend]
    return chain


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A data set of five files."""
    return _write(tmp_path_factory.mktemp("own"), "x", OWN)


@pytest.mark.parametrize("division", DIVISIONS.values(), ids=DIVISIONS.keys())
def test_friends_are_read_beside(own, division, tmp_path, local):
    """However a friend is divided into files, each entry has its own; so has the number of the entry."""
    friend = _write(tmp_path / "friend", "y", division)
    expected = ROOT.RDataFrame(_chain(own, friend)).Define("p", "double(x) * y + rdfentry_").Sum("p")
    for n_ranges in (2, 7):
        frame = RDataFrame(_chain(own, friend), npartitions=n_ranges)
        apart = frame.Filter("x != friend0.y").Count()
        number = frame.Filter("x != int(rdfentry_)").Count()
        total = frame.Define("p", "double(x) * y + rdfentry_").Sum("p")
        assert dask.compute(apart, number, total) == (0, 0, expected.GetValue())


def test_several_friends(own, tmp_path, local):
    """Friends that are divided in different ways are read beside each other."""
    one = _write(tmp_path / "one", "y", DIVISIONS["by others"])
    other = _write(tmp_path / "other", "z", DIVISIONS["by more"])
    frame = RDataFrame(_chain(own, one, other), npartitions=6)
    assert dask.compute(frame.Filter("x != y || x != z").Count(), frame.Count()) == (0, 800)


def test_a_range_opens_the_files_that_it_reads(local):
    """Opens grow with the files, not with files times ranges."""
    n_files = 8
    with xrootd.serving() as (data, url), xrootd_proxy.before(url) as far:
        for name in ("own", "friend"):
            first = Path(write_events(data / f"{name}0.root"))
            for index in range(n_files):
                path = data / f"{name}{index}.root"
                if index:
                    path.write_bytes(first.read_bytes())
                path.chmod(0o644)
        names = [[f"{far.url}/{name}{index}.root" for index in range(n_files)] for name in ("own", "friend")]
        frame = RDataFrame(_chain(*names), npartitions=n_files)
        apart = frame.Filter("x != friend0.x").Count()
        _ = apart.dask
        far.requests()
        assert apart.compute() == 0
        # Of each file the range looks at what it is, and at clusters, and reads; the first also compiles.
        assert far.requests()["open"] <= 5 * 2 * n_files


def test_alignment():
    """A range begins where files of all friends begin, and gets what lies beside it."""
    alignment = Alignment.of((10, 20, 30), ((10, 50), (5, 5, 0, 20, 30)))
    assert alignment.needed(0, 1) == (0, (slice(0, 1), slice(0, 2)))
    assert alignment.needed(1, 2) == (1, (slice(1, 2), slice(3, 4)))
    assert alignment.needed(2, 3) == (1, (slice(1, 2), slice(3, 5)))


def test_a_friend_that_is_too_short():
    """Ranges behind its end get its last file, for ROOT to say that it is too short."""
    assert Alignment.of((10, 20), ((10,),)).needed(1, 2) == (0, (slice(0, 1),))
    assert Alignment.of((10, 20), ((15, 0),)).needed(1, 2) == (0, (slice(0, 2),))
