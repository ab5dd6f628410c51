"""Names of files: what ROOT takes is taken, and holds where ranges run, which is not the user's directory."""

from __future__ import annotations

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import ROOT

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import ConfigurationError, InputError
from dask_root_lambda.protocol.rootfile import FileIdentity
from dask_root_lambda.rdf import inputs, packing
from tests.conftest import EVENTS, write_events

SUM = sum(range(EVENTS))


def ours(client, *args, **kwargs):
    return RDataFrame(*args, **kwargs)


def roots(client, *args, **kwargs):
    return ROOT.RDataFrame(*args, executor=client, **kwargs)


DOORS = {"ours": ours, "ROOT's": roots}


@pytest.fixture(params=DOORS)
def door(request):
    """A constructor of either door."""
    return DOORS[request.param]


@pytest.fixture
def directory(tmp_path, events_file, monkeypatch):
    """The user's working directory, with ``sub/a.root`` and ``sub/b.root`` in it."""
    (tmp_path / "sub").mkdir()
    for name in ("a", "b"):
        shutil.copy(events_file, tmp_path / "sub" / f"{name}.root")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUB", "sub")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def environments(emulated):
    """A client whose ranges run in other processes, with working directories of their own."""
    with emulated.get_client() as client:
        yield client


def chain():
    chain, friend = ROOT.TChain("Events"), ROOT.TChain("Events")
    chain.Add("sub/a.root")
    friend.Add("sub/b.root")
    chain.AddFriend(friend, "friend")
    chain.friend = friend
    return chain


NAMES = {
    "relative": "sub/a.root",
    "pattern": "sub/a*.root",
    "list": ["sub/a.root"],
    "vector": ROOT.std.vector["std::string"](["./sub/a.root"]),
    "variable": "$SUB/a.root",
    "braces": "${SUB}/a.root",
    "home": "~/sub/a.root",
    "tree": "sub/a.root?#Events",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_that_root_takes(directory, environments, door, name):
    """Relative ones, patterns, variables, the home directory and a tree's name: as local ROOT reads them."""
    frame = door(environments, "Events", name, npartitions=2)
    assert frame.Sum("x").GetValue() == ROOT.RDataFrame("Events", name).Sum("x").GetValue() == SUM


def test_friends_are_found(directory, environments, door):
    """A chain and its friend, both named from the user's directory."""
    total = door(environments, chain(), npartitions=2).Define("y", "x + friend.x").Sum("y")
    assert total.GetValue() == 2 * SUM


def test_specifications_are_found(directory, environments):
    """Files and friends of a specification, with the samples' metadata, through both doors."""
    sample = {"trees": ["Events"], "files": ["sub/a.root", "sub/b.root"], "metadata": {"lumi": 2.0}}
    friend = {"trees": ["Events", "Events"], "files": ["sub/b.root", "sub/a.root"]}
    path = directory / "spec.json"
    path.write_text(json.dumps({"samples": {"data": sample}, "friends": {"friend": friend}}))
    for frame in (
        RDataFrame.from_spec(str(path), npartitions=3),
        ROOT.RDF.Experimental.FromSpec(str(path), executor=environments),
    ):
        weighted = frame.DefinePerSample("lumi", 'rdfsampleinfo_.GetD("lumi")')
        assert weighted.Define("y", "lumi * (x + friend.x)").Sum("y").GetValue() == 8 * SUM


def test_snapshots_are_written_where_the_user_is(directory, environments, door):
    """A relative name of what is written means the user's directory, too."""
    frame = door(environments, "Events", "sub/a.root", npartitions=2)
    written = frame.Filter("x < 10").Snapshot("Few", "few.root", ["x"])
    assert written.Sum("x").GetValue() == 45
    assert list(directory.glob("few*.root"))


@pytest.mark.parametrize("npartitions", [0, -1, "many", 2.5, True])
def test_ranges_have_to_be_a_whole_number(directory, environments, door, npartitions):
    """Through both doors, before anything runs."""
    with pytest.raises(ConfigurationError, match=f"npartitions is {npartitions!r}: it has to be a whole"):
        door(environments, "Events", "sub/a.root", npartitions=npartitions)


def test_numbers_of_numpy_are_whole_numbers(directory, environments, door):
    """As they come out of a calculation."""
    frame = door(environments, "Events", "sub/a.root", npartitions=np.int64(3))
    assert frame.Count().GetValue() == EVENTS


def test_a_wrong_tree_behind_a_pattern(directory):
    """The error names a file that matches and what it holds, not the pattern."""
    with pytest.raises(InputError, match=r"sub/a.root holds no 'Evnts': it has Events \(TTree\)"):
        RDataFrame("Evnts", "sub/*.root")


def test_friends_are_out_of_reach_of_aws_too(directory):
    """A friend on this machine is refused before anything runs, though the main file is elsewhere."""
    frame = RDataFrame(chain(), npartitions=2)
    total, head = frame.Sum("x"), frame._headnode
    head.inputfiles = ["root://localhost//a.root"]
    head.identities = {head.inputfiles[0]: FileIdentity(size=1, header="")}
    with pytest.raises(InputError, match=r"cannot read files of this machine: \S*sub/b.root\."):
        packing.pack(head, [total.node], 2).mapper.check_reach()
    assert not total.computed


def test_a_friend_that_was_replaced_on_the_way(directory, local):
    """What a range reads of a friend is what the client saw, or an error."""
    total = RDataFrame(chain(), npartitions=2).Define("y", "friend.x").Sum("y")
    graph = total.__dask_graph__()
    write_events(directory / "sub" / "b.root", value="7")
    client = local.get_client()
    with pytest.raises(InputError, match="is not the file it was when the RDataFrame was made"):
        client.get(graph, total.__dask_keys__())


def test_a_compute_of_many_results_looks_at_files_seldom(directory, monkeypatch):
    """Not once for every result: 40 results over 30 files open fewer than 40 times 30."""
    names = [str(directory / f"l{index}.root") for index in range(30)]
    for name in names:
        os.link(directory / "sub" / "a.root", name)
    frame = RDataFrame("Events", names, npartitions=2)
    results = [frame.Sum("x") for _ in range(40)]
    opened = []
    identify = inputs.storage.identify
    monkeypatch.setattr(inputs.storage, "identify", lambda url: opened.append(url) or identify(url))
    # Of this module alone: other threads ask for the time as well.
    clock = SimpleNamespace(monotonic=iter(np.arange(0, 1000, 1e-3)).__next__)
    monkeypatch.setattr(inputs, "time", clock)
    for result in results:
        result.__dask_graph__()
    assert len(opened) < 40 * 30 / 4


def test_code_that_is_registered_later_is_in_the_next_graph(directory, local):
    """initialize and DistributeCppCode after a result was booked make another graph of it."""
    total = RDataFrame("Events", "sub/a.root", npartitions=2).Sum("x")
    before = total.__dask_keys__()
    assert total.__dask_keys__() == before
    ROOT.RDF.Distributed.initialize(len, "a calibration")
    try:
        assert total.__dask_keys__() != before
    finally:
        ROOT.RDF.Distributed.initialize(lambda: None)
