"""Files that cannot be read: by default an error that names one; on request left out, and told."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import dask
import pytest
import ROOT

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol import wire
from dask_root_lambda.protocol.errors import (
    DaskRootLambdaError,
    GraphError,
    InputError,
    UnavailableInputError,
)
from lambda_runtime import storage
from tests.conftest import write_events


@pytest.fixture
def files(tmp_path):
    """Four files of 1,000 entries, whose ``x`` counts from 0."""
    return [write_events(tmp_path / f"{name}.root") for name in "abcd"]


def damage(path, *, front=False):
    """Damage a file's data, which can be opened still; or its front, so that it cannot.

    Of the data that is where packed blocks of both columns begin: ROOT would take garbage before them for
    sizes of gigabytes.
    """
    content = bytearray(Path(path).read_bytes())
    blocks = itertools.islice(re.compile(b"ZL\x08").finditer(bytes(content), len(content) // 3), 2)
    for start, stop in [(0, 300)] if front else [block.span() for block in blocks]:
        for place in range(start, stop):
            content[place] ^= 0x5A
    Path(path).write_bytes(content)


def expected(files):
    return ROOT.RDataFrame("Events", files).Sum("x").GetValue()


def test_by_default_it_is_an_error_that_names_it(local, files):
    """Before anything runs, where the client sees it."""
    damage(files[2], front=True)
    with pytest.raises(InputError, match=r"c\.root is not a ROOT file"):
        RDataFrame("Events", files)


@pytest.mark.parametrize("npartitions", [1, 3, 8])
@pytest.mark.parametrize("bad", [0, 2])
def test_a_file_that_the_client_cannot_read(local, files, npartitions, bad):
    """It is left out, the first one as well; nobody knows how many entries are missing."""
    damage(files[bad], front=True)
    frame = RDataFrame("Events", files, npartitions=npartitions, skip_unreadable=True)
    total = frame.Sum("x")
    assert total.GetValue() == expected([file for file in files if file != files[bad]])
    (skipped,) = total.skipped
    assert (skipped.url, skipped.entries) == (files[bad], None)
    assert f"{files[bad]} was left out, nobody knows how many entries are missing" in str(local.report())


@pytest.mark.parametrize("npartitions", [1, 3, 8])
def test_a_file_that_a_range_cannot_open(local, files, npartitions, monkeypatch):
    """The client could look at it, and it is gone where the range runs."""
    total = RDataFrame("Events", files, npartitions=npartitions, skip_unreadable=True).Sum("x")
    graph = total.dask
    compare = storage.compare

    def gone(url, identity):
        if url == files[1]:
            raise InputError(f"cannot read {url}: Permission denied")
        return compare(url, identity)

    monkeypatch.setattr(storage, "compare", gone)
    assert graph
    assert total.GetValue() == expected([files[0], *files[2:]])
    assert {each.url for each in total.skipped} == {files[1]}
    assert {each.entries for each in total.skipped} == {None}
    assert sum(each.interval.stop - each.interval.start for each in total.skipped) == 1


def test_storage_that_is_away_is_tried_again(local, files, monkeypatch):
    """That is no fault of the file: once the storage answers, nothing is missing."""
    total = RDataFrame("Events", files, npartitions=2, skip_unreadable=True).Sum("x")
    compare, away = storage.compare, [UnavailableInputError("busy"), UnavailableInputError("busy")]

    def busy(url, identity):
        if away:
            raise away.pop()
        return compare(url, identity)

    monkeypatch.setattr(storage, "compare", busy)
    assert total.GetValue() == expected(files)
    assert total.skipped == ()


@pytest.mark.parametrize("npartitions", [1, 3, 8])
def test_a_file_whose_data_is_damaged(local, files, npartitions):
    """What is left out is counted: the sum is that of the other entries, and none is lost unsaid."""
    damage(files[1])
    with dask.config.set({"dask-root-lambda.files.skip-unreadable": True}):
        frame = RDataFrame("Events", files, npartitions=npartitions)
    total, count = frame.Sum("x"), frame.Count()
    values = dask.compute(total, count)
    missing = sum(each.entries for each in total.skipped)
    assert {each.url for each in total.skipped} == {files[1]}
    assert 0 < missing <= 1000
    assert values[1] == 4000 - missing
    assert values[0] <= expected(files[:1]) * 4
    assert all(str(each) in local.report().notes for each in total.skipped)


def test_a_function_of_its_own_tells_as_well(emulated, files):
    """A file that goes once the graph is made: what the environments left out comes with the results."""
    total = RDataFrame("Events", files, npartitions=4, skip_unreadable=True).Sum("x")
    graph, (key,) = total.dask, total.__dask_keys__()
    Path(files[3]).unlink()
    with emulated.get_client() as client:
        value, left_out = client.get(graph, key)
    assert wire.loads(value).GetValue() == expected(files[:3])
    (skipped,) = wire.loads(left_out)
    assert (skipped.url, skipped.entries) == (files[3], None)
    assert "No such file" in skipped.reason
    assert str(skipped) in emulated.report().notes


def test_without_the_request_damaged_data_is_an_error(local, files):
    """Which names the file, by what ROOT reports."""
    damage(files[1])
    with pytest.raises(DaskRootLambdaError, match=r"b\.root"):
        RDataFrame("Events", files, npartitions=3).Sum("x").GetValue()


def test_a_file_that_was_replaced_is_no_unreadable_one(local, files):
    """It has other content, which nobody asked to leave out."""
    total = RDataFrame("Events", files, skip_unreadable=True).Sum("x")
    write_events(Path(files[3]), entries=500)
    with pytest.raises(InputError, match="was replaced since the RDataFrame was made"):
        total.GetValue()


def test_when_nothing_can_be_read(local, files):
    """There is no result without data."""
    for file in files:
        damage(file, front=True)
    with pytest.raises(InputError, match="none of 4 files can be read"):
        RDataFrame("Events", files, skip_unreadable=True)


def test_what_cannot_do_without_a_file(local, files, tmp_path):
    """Snapshots would be taken for whole; friends would be paired wrongly."""
    frame = RDataFrame("Events", files, skip_unreadable=True)
    with pytest.raises(GraphError, match="nothing in them says so"):
        frame.Snapshot("Events", str(tmp_path / "out.root"))
    chain, friend = ROOT.TChain("Events"), ROOT.TChain("Events")
    chain.Add(files[0])
    friend.Add(files[1])
    chain.AddFriend(friend, "friend")
    with pytest.raises(GraphError, match="paired wrongly"):
        RDataFrame(chain, skip_unreadable=True)
