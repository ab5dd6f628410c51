"""One contract, kept by every store."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from botocore.exceptions import IncompleteReadError

from dask_root_lambda.protocol import store as store_module
from dask_root_lambda.protocol.errors import ConfigurationError, MissingBlobError, StoreError
from dask_root_lambda.protocol.store import (
    DirectoryStore,
    MemoryStore,
    S3Store,
    connect,
    open_store,
    register,
    unregister,
)


@pytest.fixture(params=["memory", "directory", "s3"])
def store(request, tmp_path):
    """An empty store of each kind; S3 is moto's, over HTTP on loopback."""
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "directory":
        yield DirectoryStore(tmp_path / "store")
    else:
        server = request.getfixturevalue("aws_endpoint")
        client = boto3.client(
            "s3",
            endpoint_url=server,
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        client.create_bucket(Bucket="bucket")
        store = S3Store("bucket", "some/prefix", client)
        yield store
        store.delete(store.keys())
        client.delete_bucket(Bucket="bucket")


def test_what_was_written_is_read(store):
    """A blob comes back under its key, byte for byte."""
    assert store.put("partials/run/1", b"\0blob\xff")
    assert store.get("partials/run/1") == b"\0blob\xff"


def test_the_first_write_wins(store):
    """A second write under a key is no error, changes nothing, and says that it did not write."""
    assert store.put("key", b"first")
    assert not store.put("key", b"second")
    assert store.get("key") == b"first"


def test_the_same_write_twice_wins_once(store):
    """Who writes the very same object again is told that it was there."""
    blob = b"one object"
    assert store.put("key", blob)
    assert not store.put("key", blob)


def test_of_many_writers_at_once_one_wins(store):
    """Of simultaneous writes under one key exactly one is told that it wrote, and that one is read."""
    barrier = threading.Barrier(8)

    def write(index):
        barrier.wait(10)
        return store.put("key", b"%d" % index)

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(write, range(8)))
    assert written.count(True) == 1
    assert store.get("key") == b"%d" % written.index(True)


def test_a_missing_blob_is_named(store):
    """Reading what is not there names the key and the store."""
    with pytest.raises(MissingBlobError, match="no partials/run/7 in"):
        store.get("partials/run/7")


def test_keys_are_listed_by_prefix_in_order(store):
    """Listing is by prefix, sorted, and complete."""
    for key in ("b/2", "a/1", "b/1", "bb/1"):
        store.put(key, b"")
    assert list(store.keys("b/")) == ["b/1", "b/2"]
    assert list(store.keys()) == ["a/1", "b/1", "b/2", "bb/1"]


def test_deleted_keys_are_gone_and_deleting_again_is_no_error(store):
    """Deleting is idempotent, and touches nothing else."""
    store.put("a", b"1")
    store.put("b", b"2")
    store.delete(["a", "never-was"])
    store.delete(["a"])
    assert list(store.keys()) == ["b"]


def test_more_than_a_thousand_keys_are_listed_and_deleted(store):
    """S3 lists and deletes a thousand at a time; callers do not notice."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: store.put(f"many/{index:04}", b""), range(1005)))
    assert len(list(store.keys("many/"))) == 1005
    store.delete(store.keys("many/"))
    assert list(store.keys()) == []


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../outside", "a/../../b"])
def test_keys_stay_inside(store, key):
    """A key that would lead out of the store is refused."""
    with pytest.raises(StoreError, match="is no key"):
        store.put(key, b"")


class Breaking:
    """As much of an S3 client as reading needs; the first ``failures`` bodies break off."""

    def __init__(self, failures):
        self.failures = failures

    def get_object(self, **_):
        return {"Body": self}

    def read(self, size):
        self.failures -= 1
        if self.failures >= 0:
            raise IncompleteReadError(actual_bytes=1, expected_bytes=4)
        return b"blob" if self.failures == -1 else b""


def test_a_body_that_breaks_off_is_read_again():
    """boto3 asks again until the answer begins; after that it is for us, a few times."""
    assert S3Store("bucket", client=Breaking(2)).get("key") == b"blob"
    with pytest.raises(StoreError, match=r"could not read key of s3://bucket"):
        S3Store("bucket", client=Breaking(3)).get("key")


class Trickling:
    """As much of an S3 client as reading needs; a byte comes every ten seconds, by the clock that it is."""

    def __init__(self):
        self.now_s = 0.0
        self.asked = 0

    def get_object(self, **_):
        self.asked += 1
        return {"Body": self}

    def read(self, size):
        self.now_s += 10.0
        return b"x"

    def monotonic(self):
        return self.now_s


def test_a_body_that_trickles_has_a_deadline(monkeypatch):
    """A gigabyte at a byte in ten seconds is not waited for: after five minutes the read has failed, once."""
    trickling = Trickling()
    monkeypatch.setattr(store_module, "time", trickling)
    with pytest.raises(StoreError, match=r"could not read key .* bytes came within 300 s"):
        S3Store("bucket", client=trickling).get("key")
    assert trickling.asked == 1
    assert trickling.now_s == pytest.approx(300, abs=11)


def test_a_url_opens_the_same_store(tmp_path):
    """What one process writes, another reads by the store's URL."""
    store = DirectoryStore(tmp_path)
    store.put("key", b"blob")
    assert open_store(store.url).get("key") == b"blob"


def test_a_bucket_of_an_emulator_is_opened_by_its_url(aws_endpoint):
    """The URL of an emulator's bucket holds its endpoint: any process of this machine can open it."""
    store = S3Store("elsewhere", "pre", emulator=aws_endpoint)
    store._client.create_bucket(Bucket="elsewhere")
    store.put("key", b"blob")
    assert store.url.startswith("s3+http://127.0.0.1:")
    assert open_store(store.url).get("key") == b"blob"


def test_a_registered_store_is_found_by_its_url():
    """A process that has a store open uses that one, with its client and endpoint, until it is closed."""
    first, second = MemoryStore(), MemoryStore()
    register(first)
    register(second)
    assert connect(first.url) is second
    unregister(second)
    assert connect(first.url) is not second
    register(second)
    unregister(first)
    assert connect(first.url) is second
    unregister(second)


def test_an_unknown_url_says_what_is_possible():
    """A URL of another scheme is an error that names the schemes there are."""
    with pytest.raises(ConfigurationError, match="s3://BUCKET/PREFIX or file:///DIRECTORY"):
        open_store("ftp://host/")


def test_an_unwritable_directory_is_an_error_of_the_store(tmp_path):
    """Where a file stands in the way the error says which path, and nothing is left behind."""
    (tmp_path / "a").write_text("a file")
    with pytest.raises(StoreError, match="could not write"):
        DirectoryStore(tmp_path).put("a/b", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_store_that_nobody_registered_is_opened_once(monkeypatch, tmp_path):
    """A client takes long to make: fetches of one process share it, and a fork makes its own."""
    opened = []
    monkeypatch.setattr(store_module, "open_store", lambda url: opened.append(url) or MemoryStore())
    url = f"s3://never-{tmp_path.name}"
    assert store_module.connect(url) is store_module.connect(url)
    assert opened == [url]
    pid = os.fork()
    if pid == 0:
        store_module.connect(url)
        os._exit(len(opened))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2
