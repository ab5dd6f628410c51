"""Data over root://, from a real XRootD server on loopback."""

from __future__ import annotations

import gc
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import dask
import pytest
from dask.base import tokenize

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import InputError
from lambda_runtime import storage
from tests import xrootd
from tests.conftest import write_events

SUM = 499500.0


@pytest.fixture(scope="module")
def server():
    """An XRootD server that serves a directory, and the URL of that directory."""
    with xrootd.serving() as served:
        yield served


@pytest.fixture(scope="module")
def remote(server):
    """Two files on the server, and their URLs."""
    data, url = server
    for index in range(2):
        path = Path(write_events(data / f"events{index}.root"))
        path.chmod(0o644)
    return [f"{url}/events{index}.root" for index in range(2)]


def test_ranges_read_over_the_network(remote, local):
    """Under local execution the numbers are those of the files."""
    frame = RDataFrame("Events", remote, npartitions=4)
    assert dask.compute(frame.Count(), frame.Sum("x")) == (2000, 2 * SUM)
    assert local.report().total.entries == 2000


def test_environments_read_over_the_network(remote, emulated):
    """Environments read root:// themselves."""
    with emulated.get_client():
        frame = RDataFrame("Events", remote, npartitions=4)
        assert dask.compute(frame.Count(), frame.Sum("x")) == (2000, 2 * SUM)


def test_remote_files_are_not_of_this_machine(remote, local, monkeypatch):
    """What is read over root:// may be read from anywhere: no complaint about local files."""
    monkeypatch.setattr(local._executor._invokers["local"], "remote", True, raising=False)
    assert RDataFrame("Events", remote, npartitions=2).Sum("x").compute() == 2 * SUM


def test_a_snapshot_to_the_server_is_possible_from_anywhere(server, remote):
    """A path on the server is no file of this machine."""
    from dask_root_lambda.rdf import operations, packing

    frame = RDataFrame("Events", remote)
    node = operations.book(frame._node, "Snapshot", ("Few", f"{server[1]}/few.root", ["x"]), {})
    assert packing.pack(frame._headnode, [node], 1).mapper.local_outputs == ()


def test_environments_write_over_the_network(server, remote, emulated):
    """A Snapshot to the server is written by the ranges themselves, and read from there."""
    data, url = server
    with emulated.get_client():
        frame = RDataFrame("Events", remote, npartitions=2)
        written = frame.Filter("x % 2 == 0").Snapshot("Even", f"{url}/halved.root", ["x"])
        assert dask.compute(written.Count(), written.Sum("x")) == (1000, 2 * 249500.0)
    assert sorted(path.name for path in data.glob("halved*")) == ["halved_0.root", "halved_1.root"]


def test_identity_is_the_same_near_and_far(server, remote):
    """Size and header are read alike over the network; when a file was changed, to the second."""
    data, _ = server
    near = storage.identify(str(data / "events0.root"))
    far = storage.identify(remote[0])
    assert far == replace(near, mtime_ns=near.mtime_ns // 10**9 * 10**9)


def test_files_are_told_apart_side_by_side(server):
    """Many looks at once: each is at the file that it names."""
    data, url = server
    sizes = {f"side{index}.root": 10_000 * (index + 1) for index in range(16)}
    for name, size in sizes.items():
        head = b"root" + (1).to_bytes(4, "big") + bytes(4) + size.to_bytes(4, "big")
        (data / name).write_bytes(head + bytes(size))
        (data / name).chmod(0o644)
    with ThreadPoolExecutor(16) as pool:
        for _ in range(10):
            seen = pool.map(lambda name: storage.identify(f"{url}/{name}").size, sizes)
            assert list(seen) == [size + 16 for size in sizes.values()]


def test_a_time_of_change_tells_runs_apart(server, local):
    """A file that may have other content of the same size and header is another run."""
    data, url = server
    path = Path(write_events(data / "touched.root"))
    path.chmod(0o644)
    frames = []
    for changed_s in (1_000_000_000, 1_000_000_001):
        os.utime(path, (changed_s, changed_s))
        frames.append(RDataFrame("Events", f"{url}/touched.root", npartitions=2).Sum("x"))
    assert len(set(map(tokenize, frames))) == 2


@pytest.mark.parametrize("changed_s", [1_000_000_000, 2_000_000_000])
def test_a_replica_changed_at_another_time_is_read(server, emulated, changed_s):
    """The time of change over root:// never fails a range: replicas differ in it."""
    data, url = server
    path = Path(write_events(data / f"replica{changed_s}.root"))
    path.chmod(0o644)
    with emulated.get_client():
        total = RDataFrame("Events", f"{url}/{path.name}", npartitions=2).Sum("x")
        os.utime(path, (changed_s, changed_s))
        assert total.compute() == SUM


def test_a_missing_file_is_named(server, local):
    """A path that the server does not have is an error that names it, when the frame is made."""
    _, url = server
    with pytest.raises(InputError, match=r"cannot open root://.*/nowhere\.root"):
        RDataFrame("Events", f"{url}/nowhere.root")


def test_a_truncated_file_is_named(server, remote, local):
    """A file on the server that ended early is recognised before anything runs."""
    data, url = server
    short = data / "short.root"
    short.write_bytes((data / "events0.root").read_bytes()[:3000])
    short.chmod(0o644)
    with pytest.raises(InputError, match=r"short\.root is truncated: 3,000 bytes of"):
        RDataFrame("Events", [remote[0], f"{url}/short.root"], npartitions=2).Count().compute()


def test_a_host_that_does_not_answer(local):
    """A closed port is told within a minute."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began_s = time.monotonic()
    with pytest.raises(InputError, match="check the host and the path"):
        RDataFrame("Events", f"root://127.0.0.2:{port}//events.root")
    assert time.monotonic() - began_s < 60


def test_a_remote_file_replaced_under_its_old_name(server, local):
    """A file that is replaced on the server is new data: another run, with the new file's numbers."""
    data, url = server
    tokens = set()
    for factor in (1, 2):
        path = Path(write_events(data / "changing.root", value=f"{factor} * int(rdfentry_)"))
        path.chmod(0o644)
        frame = RDataFrame("Events", f"{url}/changing.root", npartitions=2)
        total = frame.Sum("x")
        tokens.add(tokenize(total))
        if factor == 1:
            # This server shares one handle among all who have a path open, and would serve the old file on.
            del frame, total
            gc.collect()
    assert len(tokens) == 2
    assert total.compute() == 2 * SUM
