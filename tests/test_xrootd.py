"""Data over root://, from a real XRootD server on loopback."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import dask
import pytest
from dask.base import tokenize

from dask_root_lambda import RDataFrame
from dask_root_lambda.protocol.errors import InputError
from dask_root_lambda.rdf import inputs
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
    from dask_root_lambda.rdf import distrdf, packing

    frame = RDataFrame("Events", remote)
    node = distrdf.book(frame._node, "Snapshot", ("Few", f"{server[1]}/few.root", ["x"]), {})
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


_DELAY = """
import asyncio, sys
async def carry(reader, writer):
    while data := await reader.read(65536):
        await asyncio.sleep(0.05)
        writer.write(data)
    writer.close()
async def serve(reader, writer):
    far_reader, far_writer = await asyncio.open_connection("127.0.0.2", int(sys.argv[1]))
    await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@pytest.fixture
def distant(server):
    """The URL of the server's directory as seen from 100 ms away."""
    port = server[1].rstrip("/").rpartition(":")[2]
    command = [sys.executable, "-c", _DELAY, port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield f"root://localhost:{process.stdout.readline().strip()}/"
        process.kill()


class _Sleepers:
    """Counts the threads that sleep at the same time."""

    def __init__(self):
        self._now, self.most, self._lock = 0, 0, threading.Lock()

    def sleep(self, seconds):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(seconds)
        with self._lock:
            self._now -= 1


def test_many_distant_files_are_opened_side_by_side(server, distant, local, monkeypatch):
    """While one server is waited for others are asked, and what is found is what one by one finds."""
    data, _ = server
    for index in range(12):
        Path(write_events(data / f"distant{index}.root")).chmod(0o644)
    urls = [f"{distant}/distant{index}.root" for index in range(12)]
    alone = [storage.identify(url) for url in urls]
    sleepers = _Sleepers()
    monkeypatch.setattr(storage, "time", sleepers)
    assert list(inputs._side_by_side(urls)) == alone
    assert sleepers.most >= 6


_INTERRUPTED = """
import os, sys, time
from dask_root_lambda import LambdaCluster, RDataFrame
with LambdaCluster(execution="local", dashboard_address=None) as cluster, cluster.get_client():
    print("ready", flush=True)
    try:
        RDataFrame("Events", sys.argv[1])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_while_a_server_does_not_answer():
    """A host that takes connections and is silent holds neither Ctrl-C nor the end of the program."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"root://localhost:{silent.getsockname()[1]}//events.root"
        command = [sys.executable, "-W", "ignore", "-c", _INTERRUPTED, url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            connection, _ = silent.accept()  # it waits for an answer from now on
            began_s = time.monotonic()
            process.send_signal(signal.SIGINT)
            said, complaints = process.communicate(timeout=60)
            took_s = time.monotonic() - began_s
            connection.close()
    assert (process.returncode, said, complaints) == (0, "interrupted\n", "")
    assert took_s < 3
